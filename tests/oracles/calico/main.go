// Judges connections with the policy engine of Calico's own agent, Felix.
//
// Policies go through libcalico-go's validators and update processors, Felix's calculation graph and
// its renderer; what stands here itself is how packets walk the iptables rules that it renders, and
// that tiers follow each other, for this Felix knows only the default one.
//
// Each line of standard input is one `request` in JSON, each line of standard output its `answer`.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/sirupsen/logrus"
)

// request is a cluster, its policies, and what is asked about them.
//
// Questions are (source, destination, protocol number, port) with the ends as places in Points; the
// port of ICMP is its type * 256 + code.
type request struct {
	Policies   []json.RawMessage `json:"policies"`
	Namespaces []json.RawMessage `json:"namespaces"`
	Accounts   []json.RawMessage `json:"accounts"`
	Pods       []json.RawMessage `json:"pods"`
	Slices     []json.RawMessage `json:"slices"`
	Points     []point           `json:"points"`
	Questions  [][4]int          `json:"questions"`
}

// point is one end: a pod (`namespace/name`) or an address.
type point struct {
	Pod     string `json:"pod"`
	Address string `json:"address"`
}

// answer holds a digit for each question: 1 if egress allows it, plus 2 if ingress does, or `-`
// where the ends have no addresses of one IP version, or not of the protocol's.
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
	logrus.SetOutput(os.Stderr)
	logrus.SetLevel(logrus.FatalLevel)
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := json.NewEncoder(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) > 0 {
			if err := out.Encode(judged(line)); err != nil {
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

func judged(line []byte) answer {
	var asked request
	if err := json.Unmarshal(line, &asked); err != nil {
		return answer{Error: err.Error()}
	}
	cluster, refused, err := newCluster(asked)
	if err != nil {
		return answer{Refused: refused, Error: err.Error()}
	}
	verdicts, err := cluster.verdicts(asked)
	if err != nil {
		return answer{Refused: refused, Error: err.Error()}
	}
	return answer{Refused: refused, Verdicts: verdicts}
}
