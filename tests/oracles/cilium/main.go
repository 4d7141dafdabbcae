// Judges connections with the policy engine of Cilium's own agent.
//
// Each line of standard input is one `request` in JSON, each line of standard output its `answer`.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
)

// request is a cluster, its policies, and what is asked about them.
//
// Questions are (source, destination, protocol number, port) with the ends as places in Points; the
// port of ICMP is its type. Names are what DNS has answered. Addresses of APIServers are those of
// the Service `default/kubernetes`.
type request struct {
	Cluster    string              `json:"cluster"`
	Policies   []json.RawMessage   `json:"policies"`
	Namespaces []json.RawMessage   `json:"namespaces"`
	Nodes      []node              `json:"nodes"`
	Pods       []json.RawMessage   `json:"pods"`
	Services   []service           `json:"services"`
	Names      map[string][]string `json:"names"`
	APIServers []string            `json:"apiServers"`
	Points     []point             `json:"points"`
	Questions  [][4]int            `json:"questions"`
}

// point is one end: a pod (`namespace/name`), an address, or an entity that Cilium names.
type point struct {
	Pod     string `json:"pod"`
	Address string `json:"address"`
	Entity  string `json:"entity"`
}

type node struct {
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels"`
	Addresses []string          `json:"addresses"`
}

type service struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels"`
	Selector  map[string]string `json:"selector"`
	Addresses []string          `json:"addresses"`
}

// answer holds a digit for each question: 1 if egress allows it, plus 2 if ingress does.
type answer struct {
	Refused  []refusal `json:"refused"`
	Verdicts string    `json:"verdicts"`
	Error    string    `json:"error,omitempty"`
}

type refusal struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Error     string `json:"error"`
}

func main() {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	if err := configure(logger); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			if err := out.Encode(judged(logger, line)); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func judged(logger *slog.Logger, line []byte) answer {
	var asked request
	if err := json.Unmarshal(line, &asked); err != nil {
		return answer{Error: err.Error()}
	}
	// Each node's agent judges its own pods: which node is the host differs.
	found := answer{}
	digits := make([]byte, len(asked.Questions))
	for _, local := range localNodes(asked) {
		refused, err := judgedOn(logger, asked, local, digits)
		found.Refused = refused
		if err != nil {
			found.Error = err.Error()
			return found
		}
	}
	for i := range digits {
		digits[i] += '0'
	}
	found.Verdicts = string(digits)
	return found
}

func judgedOn(logger *slog.Logger, asked request, local string, digits []byte) ([]refusal, error) {
	agent := newAgent(logger, asked, local)
	defer agent.close()
	refused, err := agent.load(asked)
	if err != nil {
		return refused, err
	}
	return refused, agent.judge(asked, digits)
}
