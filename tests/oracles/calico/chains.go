package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/projectcalico/calico/felix/iptables"
)

// packet is the first one of a connection.
type packet struct {
	src, dst         netip.Addr
	protocol         int
	srcPort, dstPort int
	kind, code       int
	mark             uint32
}

func newPacket(src, dst netip.Addr, protocol, port int) packet {
	p := packet{src: src, dst: dst, protocol: protocol, srcPort: -1, dstPort: -1, kind: -1}
	switch protocol {
	case 6, 17, 132, 136:
		p.srcPort, p.dstPort = sourcePort, port
	case 1, 58:
		p.kind, p.code = port/256, port%256
	}
	return p
}

func (p *packet) version() int {
	if p.src.Is4() {
		return 4
	}
	return 6
}

// match is one criterion of a rule.
type match func(*packet) bool

type rule struct {
	matches []match
	action  iptables.Action
	target  string
	comment string
	broken  error
}

type chain struct{ rules []rule }

func newChain(given *iptables.Chain, sets map[string]*ipSet) *chain {
	found := &chain{}
	for _, each := range given.Rules {
		r := rule{action: each.Action, comment: strings.Join(each.Comment, " ")}
		if jump, ok := each.Action.(iptables.JumpAction); ok {
			r.target = jump.Target
		}
		for _, text := range each.Match {
			criterion, err := newMatch(text, sets)
			if err != nil {
				r.broken = err
			}
			r.matches = append(r.matches, criterion)
		}
		found.rules = append(found.rules, r)
	}
	return found
}

type decision int

const (
	through decision = iota // the end of the chain, or RETURN
	accept
	drop
)

// walk sends a packet through a chain, as netfilter would; the comment is of the rule that dropped.
func walk(chains map[string]*chain, start *chain, p *packet) (decision, string, error) {
	for _, each := range start.rules {
		if each.broken != nil {
			return drop, "", each.broken
		}
		if !each.hits(p) {
			continue
		}
		switch action := each.action.(type) {
		case nil, iptables.LogAction:
		case iptables.AcceptAction:
			return accept, each.comment, nil
		case iptables.DropAction, iptables.RejectAction:
			return drop, each.comment, nil
		case iptables.ReturnAction:
			return through, "", nil
		case iptables.SetMarkAction:
			p.mark |= action.Mark
		case iptables.ClearMarkAction:
			p.mark &^= action.Mark
		case iptables.SetMaskedMarkAction:
			p.mark = p.mark&^action.Mask | action.Mark
		case iptables.JumpAction:
			target, ok := chains[action.Target]
			if !ok {
				return drop, "", fmt.Errorf("no chain %s", action.Target)
			}
			if found, comment, err := walk(chains, target, p); found != through || err != nil {
				return found, comment, err
			}
		default:
			return drop, "", fmt.Errorf("no such action here: %v", action)
		}
	}
	return through, "", nil
}

func (r rule) hits(p *packet) bool {
	for _, each := range r.matches {
		if !each(p) {
			return false
		}
	}
	return true
}

// newMatch reads one criterion as iptables would (iptables-extensions(8)).
func newMatch(text string, sets map[string]*ipSet) (match, error) {
	words := strings.Fields(text)
	wanted := true
	var kept []string
	for _, word := range words {
		if word == "!" {
			wanted = false
		} else {
			kept = append(kept, word)
		}
	}
	found, err := positive(kept, sets)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	if wanted {
		return found, nil
	}
	return negated(kept, found), nil
}

func negated(words []string, found match) match {
	// A negated `multiport` or `icmp` is about packets of those protocols only.
	needs := func(*packet) bool { return true }
	switch words[0] + " " + words[1] {
	case "-m multiport":
		needs = func(p *packet) bool { return p.dstPort >= 0 }
	case "-m icmp", "-m icmp6":
		needs = func(p *packet) bool { return p.kind >= 0 }
	}
	return func(p *packet) bool { return needs(p) && !found(p) }
}

func positive(words []string, sets map[string]*ipSet) (match, error) {
	switch words[0] {
	case "-p":
		number, err := protocolNumber(words[1])
		return func(p *packet) bool { return p.protocol == number }, err
	case "--source", "--destination":
		block, err := netip.ParsePrefix(words[1])
		if words[0] == "--source" {
			return func(p *packet) bool { return block.Contains(p.src) }, err
		}
		return func(p *packet) bool { return block.Contains(p.dst) }, err
	}
	switch words[1] {
	case "conntrack": // the first packet of a connection is NEW
		return func(*packet) bool { return false }, nil
	case "mark":
		return markMatch(words[3])
	case "set":
		return setMatch(sets[words[3]], words[3], words[4])
	case "multiport":
		return portMatch(words[2], words[3])
	case "icmp":
		return icmpMatch(1, words[3])
	case "icmp6":
		return icmpMatch(58, words[3])
	}
	return nil, fmt.Errorf("no such match here")
}

func protocolNumber(text string) (int, error) {
	names := map[string]int{
		"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "ipv6-icmp": 58, "sctp": 132, "udplite": 136,
	}
	if number, ok := names[text]; ok {
		return number, nil
	}
	return strconv.Atoi(text)
}

func markMatch(text string) (match, error) {
	value, mask, _ := strings.Cut(text, "/")
	v, err := strconv.ParseUint(value, 0, 32)
	if err != nil {
		return nil, err
	}
	m, err := strconv.ParseUint(mask, 0, 32)
	return func(p *packet) bool { return p.mark&uint32(m) == uint32(v) }, err
}

func setMatch(set *ipSet, name, sides string) (match, error) {
	if set == nil {
		return nil, fmt.Errorf("no IP set %s", name)
	}
	switch sides {
	case "src":
		return func(p *packet) bool { return set.has(p.src) }, nil
	case "dst":
		return func(p *packet) bool { return set.has(p.dst) }, nil
	case "src,src":
		return func(p *packet) bool { return set.hasPort(p.src, p.protocol, p.srcPort) }, nil
	case "dst,dst":
		return func(p *packet) bool { return set.hasPort(p.dst, p.protocol, p.dstPort) }, nil
	}
	return nil, fmt.Errorf("no such sides here")
}

func portMatch(side, text string) (match, error) {
	type span struct{ first, last int }
	var spans []span
	for _, part := range strings.Split(text, ",") {
		first, last, isRange := strings.Cut(part, ":")
		if !isRange {
			last = first
		}
		low, err := strconv.Atoi(first)
		if err != nil {
			return nil, err
		}
		high, err := strconv.Atoi(last)
		if err != nil {
			return nil, err
		}
		spans = append(spans, span{low, high})
	}
	return func(p *packet) bool {
		port := p.dstPort
		if side == "--source-ports" {
			port = p.srcPort
		}
		for _, each := range spans {
			if each.first <= port && port <= each.last {
				return true
			}
		}
		return false
	}, nil
}

func icmpMatch(protocol int, text string) (match, error) {
	kind, code, hasCode := strings.Cut(text, "/")
	k, err := strconv.Atoi(kind)
	if err != nil {
		return nil, err
	}
	c := 0
	if hasCode {
		if c, err = strconv.Atoi(code); err != nil {
			return nil, err
		}
	}
	return func(p *packet) bool {
		return p.protocol == protocol && p.kind == k && (!hasCode || p.code == c)
	}, nil
}

// ipSet holds blocks, or `address,protocol:port` members.
type ipSet struct {
	blocks []netip.Prefix
	ports  map[string]bool
}

func newIPSet(members []string) *ipSet {
	s := &ipSet{ports: map[string]bool{}}
	s.add(members)
	return s
}

func (s *ipSet) add(members []string) {
	for _, member := range members {
		if strings.Contains(member, ",") {
			s.ports[member] = true
		} else if block, err := netip.ParsePrefix(member); err == nil {
			s.blocks = append(s.blocks, block)
		} else if at, err := netip.ParseAddr(member); err == nil {
			s.blocks = append(s.blocks, netip.PrefixFrom(at, at.BitLen()))
		}
	}
}

func (s *ipSet) has(at netip.Addr) bool {
	for _, block := range s.blocks {
		if block.Contains(at) {
			return true
		}
	}
	return false
}

func (s *ipSet) hasPort(at netip.Addr, protocol, port int) bool {
	name := map[int]string{6: "tcp", 17: "udp", 132: "sctp"}[protocol]
	return s.ports[fmt.Sprintf("%s,%s:%d", at, name, port)]
}
