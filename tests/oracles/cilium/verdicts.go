package main

import (
	"fmt"
	"log/slog"
	"math"
	"net/netip"

	"github.com/cilium/cilium/pkg/endpoint/regeneration"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/labels"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/types"
	"github.com/cilium/cilium/pkg/u8proto"
)

const (
	egress  = 1
	ingress = 2
)

// endpoint is a pod whose policies are computed; it stands for the agent's own, which owns them.
type endpoint struct {
	id       uint64
	identity *identity.Identity
	ports    types.NamedPortMap
	node     string
	selected policy.SelectorPolicy
	policies *policy.EndpointPolicy
}

// GetID is the endpoint's number.
func (e *endpoint) GetID() uint64 { return e.id }

// GetIngressNamedPort is the pod's own port of a name.
func (e *endpoint) GetIngressNamedPort(name string, proto u8proto.U8proto) uint16 {
	port, err := e.ports.GetNamedPort(name, proto)
	if err != nil {
		return 0
	}
	return port
}

// PolicyDebug says nothing.
func (e *endpoint) PolicyDebug(string, ...any) {}

// IsHost is false: nodes' own policies are not judged.
func (e *endpoint) IsHost() bool { return false }

// PreviousMapStateSizes are none.
func (e *endpoint) PreviousMapStateSizes() policy.MapStateSizes { return policy.MapStateSizes{} }

// RegenerateIfAlive has nothing to do.
func (e *endpoint) RegenerateIfAlive(*regeneration.ExternalRegenerationMetadata) <-chan bool {
	done := make(chan bool)
	close(done)
	return done
}

func (e *endpoint) resolve(a *agent) (err error) {
	e.selected, _, err = a.repository.ComputeSelectorPolicy(e.identity)
	return err
}

// distil computes the endpoint's policy map. No proxy runs: redirected counts as allowed.
func (e *endpoint) distil(logger *slog.Logger) {
	redirects := map[string]uint16{policy.FallbackRedirectID: math.MaxUint16}
	e.policies = e.selected.DistillPolicy(logger, e, redirects)
	e.policies.Ready()
}

func (e *endpoint) allows(key policy.Key) bool {
	entry, _, _ := e.policies.Lookup(key)
	return !entry.IsDeny()
}

// verdicts is a digit for each question, as `answer` says.
func (a *agent) verdicts(asked request) (string, error) {
	for _, pod := range a.pods {
		pod.distil(a.logger)
	}
	ends := make([]end, len(asked.Points))
	for i, each := range asked.Points {
		found, err := a.end(each)
		if err != nil {
			return "", err
		}
		ends[i] = found
	}
	digits := make([]byte, len(asked.Questions))
	for i, question := range asked.Questions {
		src, dst := ends[question[0]], ends[question[1]]
		digits[i] = '0' + verdict(src, dst, u8proto.U8proto(question[2]), uint16(question[3]))
	}
	return string(digits), nil
}

// end is one end of a connection; pod is null for what has no policies of its own.
type end struct {
	pod  *endpoint
	id   identity.NumericIdentity
	node string
}

func (a *agent) end(given point) (end, error) {
	switch {
	case given.Pod != "":
		pod, ok := a.pods[given.Pod]
		if !ok {
			return end{}, fmt.Errorf("no pod %s", given.Pod)
		}
		return end{pod: pod, id: pod.identity.ID}, nil
	case given.Entity != "":
		found := identity.LookupReservedIdentityByLabels(labels.NewFrom(labels.Labels{
			given.Entity: labels.NewLabel(given.Entity, "", labels.LabelSourceReserved),
		}))
		if found == nil {
			return end{}, fmt.Errorf("no entity %s", given.Entity)
		}
		return end{id: found.ID}, nil
	}
	at, err := netip.ParseAddr(given.Address)
	if err != nil {
		return end{}, err
	}
	return end{id: a.lookup(at), node: a.nodes[at]}, nil
}

// lookup is the identity of the longest known prefix, as the data path finds it.
func (a *agent) lookup(at netip.Addr) identity.NumericIdentity {
	if found, ok := a.cache.LookupSecIDByIP(at); ok {
		return found.ID
	}
	return identity.GetWorldIdentityFromIP(at)
}

func verdict(src, dst end, proto u8proto.U8proto, port uint16) byte {
	digit := byte(0)
	if src.pod == nil || src.pod.allows(policy.EgressKey().WithIdentity(seen(dst, src.pod)).
		WithPortProto(proto, port)) {
		digit |= egress
	}
	if dst.pod == nil || dst.pod.allows(policy.IngressKey().WithIdentity(seen(src, dst.pod)).
		WithPortProto(proto, port)) {
		digit |= ingress
	}
	return digit
}

// seen is a peer's identity as a pod's own agent sees it: the node that it runs on is the host.
func seen(peer end, by *endpoint) identity.NumericIdentity {
	if peer.node != "" && peer.node == by.node {
		return identity.ReservedIdentityHost
	}
	return peer.id
}
