package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net/netip"
	"slices"

	"github.com/cilium/cilium/pkg/endpoint/regeneration"
	"github.com/cilium/cilium/pkg/identity"
	slim_corev1 "github.com/cilium/cilium/pkg/k8s/slim/k8s/api/core/v1"
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

// localNodes are the nodes of the pods that are asked about, at least one.
func localNodes(asked request) []string {
	wanted := map[string]bool{}
	for _, each := range asked.Points {
		wanted[each.Pod] = true
	}
	found := map[string]bool{}
	for _, raw := range asked.Pods {
		var pod slim_corev1.Pod
		if json.Unmarshal(raw, &pod) == nil && wanted[pod.Namespace+"/"+pod.Name] {
			found[pod.Spec.NodeName] = true
		}
	}
	if len(found) == 0 {
		return []string{""}
	}
	return slices.Sorted(maps.Keys(found))
}

// judge adds to the digit of each question what this node's agent says of it, as `answer` tells.
func (a *agent) judge(asked request, digits []byte) error {
	for _, pod := range a.pods {
		if pod.node == a.local {
			pod.distil(a.logger)
		}
	}
	ends := make([]end, len(asked.Points))
	for i, each := range asked.Points {
		found, err := a.end(each)
		if err != nil {
			return err
		}
		ends[i] = found
	}
	for i, question := range asked.Questions {
		src, dst := ends[question[0]], ends[question[1]]
		proto, port := u8proto.U8proto(question[2]), uint16(question[3])
		if a.lets(src, policy.EgressKey().WithIdentity(dst.id).WithPortProto(proto, port)) {
			digits[i] |= egress
		}
		if a.lets(dst, policy.IngressKey().WithIdentity(src.id).WithPortProto(proto, port)) {
			digits[i] |= ingress
		}
	}
	return nil
}

// lets is whether an end's policies allow a key; of other nodes' pods it is for their agents to say.
func (a *agent) lets(subject end, key policy.Key) bool {
	return subject.pod == nil || subject.pod.node == a.local && subject.pod.allows(key)
}

// end is one end of a connection; pod is null for what has no policies of its own.
type end struct {
	pod *endpoint
	id  identity.NumericIdentity
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
	return end{id: a.lookup(at)}, nil
}

// lookup is the identity of the longest known prefix, as the data path finds it.
func (a *agent) lookup(at netip.Addr) identity.NumericIdentity {
	if found, ok := a.cache.LookupSecIDByIP(at); ok {
		return found.ID
	}
	return identity.GetWorldIdentityFromIP(at)
}
