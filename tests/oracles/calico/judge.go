package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/projectcalico/calico/felix/calc"
	"github.com/projectcalico/calico/felix/config"
	"github.com/projectcalico/calico/felix/ipsets"
	"github.com/projectcalico/calico/felix/iptables"
	"github.com/projectcalico/calico/felix/proto"
	"github.com/projectcalico/calico/felix/rules"
	"github.com/projectcalico/calico/libcalico-go/lib/backend/api"
	"github.com/projectcalico/calico/libcalico-go/lib/backend/model"
)

// The bits of a packet's mark; the values are free, but must not overlap.
const (
	markAccept = 1 << iota
	markPass
	markScratch0
	markScratch1
	markEndpoint
)

const sourcePort = 40000 // of TCP, UDP and SCTP: one that a client's system may choose

// judge is what Felix programs for the pods with the policies of one tier, by IP version.
type judge struct {
	tier   *tier
	sets   map[string]*ipSet
	chains map[int]map[string]*chain
}

// programmed collects what the calculation graph sends to a data plane.
type programmed struct {
	policies  []*proto.ActivePolicyUpdate
	profiles  []*proto.ActiveProfileUpdate
	endpoints []*proto.WorkloadEndpointUpdate
	sets      map[string]*ipSet
}

func (p *programmed) take(message any) {
	switch found := message.(type) {
	case *proto.ActivePolicyUpdate:
		p.policies = append(p.policies, found)
	case *proto.ActiveProfileUpdate:
		p.profiles = append(p.profiles, found)
	case *proto.WorkloadEndpointUpdate:
		p.endpoints = append(p.endpoints, found)
	case *proto.IPSetUpdate:
		p.sets[found.Id] = newIPSet(found.Members)
	case *proto.IPSetDeltaUpdate:
		p.sets[found.Id].add(found.AddedMembers)
	}
}

func newJudge(given *tier, common []*model.KVPair) *judge {
	found := &programmed{sets: map[string]*ipSet{}}
	settings := config.New()
	settings.FelixHostname = host
	events := calc.NewEventSequencer(settings)
	events.Callback = found.take
	graph := calc.NewCalculationGraph(events, settings, func() {})
	filter := calc.NewValidationFilter(graph, settings)
	var updates []api.Update
	for _, pairs := range [][]*model.KVPair{common, given.policies} {
		for _, each := range pairs {
			updates = append(updates, api.Update{KVPair: *each, UpdateType: api.UpdateTypeKVNew})
		}
	}
	filter.OnUpdates(updates)
	filter.OnStatusUpdated(api.InSync)
	graph.Flush()
	events.Flush()
	j := &judge{tier: given, sets: map[string]*ipSet{}, chains: map[int]map[string]*chain{}}
	for version, family := range map[int]ipsets.IPFamily{4: ipsets.IPFamilyV4, 6: ipsets.IPFamilyV6} {
		named := ipsets.NewIPVersionConfig(family, rules.IPSetNamePrefix, nil, nil)
		for id, set := range found.sets {
			j.sets[named.NameForMainIPSet(id)] = set
		}
		j.chains[version] = j.render(found, uint8(version))
	}
	return j
}

// render is every chain of the pods, of their policies and profiles.
func (j *judge) render(found *programmed, version uint8) map[string]*chain {
	renderer := rules.NewRenderer(rules.Config{
		IPSetConfigV4:        ipsets.NewIPVersionConfig(ipsets.IPFamilyV4, rules.IPSetNamePrefix, nil, nil),
		IPSetConfigV6:        ipsets.NewIPVersionConfig(ipsets.IPFamilyV6, rules.IPSetNamePrefix, nil, nil),
		IptablesMarkAccept:   markAccept,
		IptablesMarkPass:     markPass,
		IptablesMarkScratch0: markScratch0,
		IptablesMarkScratch1: markScratch1,
		IptablesMarkEndpoint: markEndpoint,
		VXLANPort:            4789,
		// Else pods may not tunnel, which is no matter of policies.
		AllowVXLANPacketsFromWorkloads: true,
		AllowIPIPPacketsFromWorkloads:  true,
	})
	var rendered []*iptables.Chain
	for _, each := range found.policies {
		rendered = append(rendered, renderer.PolicyToIptablesChains(each.Id, each.Policy, version)...)
	}
	for _, each := range found.profiles {
		in, out := renderer.ProfileToIptablesChains(each.Id, each.Profile, version)
		rendered = append(rendered, in, out)
	}
	for _, each := range found.endpoints {
		in, out := groups(each.Endpoint.Tiers)
		rendered = append(rendered, renderer.WorkloadEndpointToIptablesChains(
			podOf(each.Id), nil, true, in, out, each.Endpoint.ProfileIds)...)
	}
	chains := map[string]*chain{}
	for _, each := range rendered {
		chains[each.Name] = newChain(each, j.sets)
	}
	return chains
}

// groups holds each policy in a group of its own, which is rendered without a chain for the group.
func groups(tiers []*proto.TierInfo) (in, out []*rules.PolicyGroup) {
	for _, each := range tiers {
		for _, name := range each.IngressPolicies {
			in = append(in, &rules.PolicyGroup{
				Tier: each.Name, Direction: rules.PolicyDirectionInbound, PolicyNames: []string{name},
			})
		}
		for _, name := range each.EgressPolicies {
			out = append(out, &rules.PolicyGroup{
				Tier: each.Name, Direction: rules.PolicyDirectionOutbound, PolicyNames: []string{name},
			})
		}
	}
	return in, out
}

// podOf is `namespace/name`, which stands for the name of a pod's interface.
func podOf(id *proto.WorkloadEndpointID) string { return id.WorkloadId }

// outcome is what one tier makes of a packet.
type outcome int

const (
	allowed outcome = iota
	denied
	unmatched // no policy of the tier applies, or a rule has passed it on
	ended     // policies apply, and no rule matched: what follows is the tier's default
)

// judged walks the chain of a pod: prefix tells the packet's direction.
func (j *judge) judged(prefix, pod string, p packet) (outcome, bool, error) {
	chains := j.chains[p.version()]
	name := rules.EndpointChainName(prefix, pod)
	start, ok := chains[name]
	if !ok {
		return denied, false, fmt.Errorf("no chain for %s", pod)
	}
	governed := false
	for _, each := range start.rules {
		if strings.HasPrefix(each.target, string(rules.PolicyInboundPfx)) ||
			strings.HasPrefix(each.target, string(rules.PolicyOutboundPfx)) {
			governed = true
		}
	}
	verdict, reason, err := walk(chains, start, &p)
	switch {
	case err != nil:
		return denied, governed, err
	case verdict == drop && strings.Contains(reason, "if no policies passed packet"):
		return ended, governed, nil
	case verdict == drop && strings.Contains(reason, "if no profiles matched"):
		return unmatched, governed, nil
	case verdict == drop:
		return denied, governed, nil
	case p.mark&markPass != 0 || !governed:
		// The profile has accepted it, after a rule has passed it on or where no policy applies.
		return unmatched, governed, nil
	}
	return allowed, governed, nil
}

// allows is whether the tiers of a cluster let a packet pass in one direction.
func (c *cluster) allows(prefix, pod string, p packet) (bool, error) {
	for _, each := range c.judges {
		found, _, err := each.judged(prefix, pod, p)
		if err != nil {
			return false, err
		}
		switch {
		case found == allowed:
			return true, nil
		case found == denied, found == ended && !each.tier.passes:
			return false, nil
		}
	}
	// The profile of every namespace allows all (libcalico-go, NamespaceToProfile).
	return true, nil
}

// verdicts is a digit for each question, as `answer` says.
func (c *cluster) verdicts(asked request) (string, error) {
	digits := make([]byte, len(asked.Questions))
	for i, question := range asked.Questions {
		src, dst := asked.Points[question[0]], asked.Points[question[1]]
		digit, err := c.verdict(src, dst, question[2], question[3])
		if err != nil {
			return "", err
		}
		digits[i] = digit
	}
	return string(digits), nil
}

func (c *cluster) verdict(src, dst point, protocol, port int) (byte, error) {
	p, ok, err := c.packet(src, dst, protocol, port)
	if err != nil || !ok {
		return '-', err
	}
	digit := byte('0')
	for _, side := range []struct {
		pod    string
		prefix string
		bit    byte
	}{
		{src.Pod, rules.WorkloadFromEndpointPfx, 1},
		{dst.Pod, rules.WorkloadToEndpointPfx, 2},
	} {
		passes := true
		if side.pod != "" {
			if passes, err = c.allows(side.prefix, side.pod, p); err != nil {
				return '-', err
			}
		}
		if passes {
			digit += side.bit
		}
	}
	return digit, nil
}

func (c *cluster) packet(src, dst point, protocol, port int) (packet, bool, error) {
	sources, err := c.addresses(src)
	if err != nil {
		return packet{}, false, err
	}
	targets, err := c.addresses(dst)
	if err != nil {
		return packet{}, false, err
	}
	for _, from := range sources {
		for _, to := range targets {
			if from.Is4() == to.Is4() && exists(protocol, from) {
				return newPacket(from, to, protocol, port), true, nil
			}
		}
	}
	return packet{}, false, nil
}

// exists is whether a protocol can come from an address: each IP version has its own ICMP.
func exists(protocol int, at netip.Addr) bool {
	return protocol != 1 && protocol != 58 || (protocol == 1) == at.Is4()
}

func (c *cluster) addresses(given point) ([]netip.Addr, error) {
	if given.Pod != "" {
		found, ok := c.pods[given.Pod]
		if !ok {
			return nil, fmt.Errorf("no pod %s", given.Pod)
		}
		return found, nil
	}
	at, err := netip.ParseAddr(given.Address)
	return []netip.Addr{at}, err
}
