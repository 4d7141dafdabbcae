package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"sort"
	"strings"

	apiv3 "github.com/projectcalico/api/pkg/apis/projectcalico/v3"
	kapiv1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/projectcalico/calico/libcalico-go/lib/backend/k8s/conversion"
	"github.com/projectcalico/calico/libcalico-go/lib/backend/model"
	"github.com/projectcalico/calico/libcalico-go/lib/backend/syncersv1/updateprocessors"
	"github.com/projectcalico/calico/libcalico-go/lib/backend/watchersyncer"
	validator "github.com/projectcalico/calico/libcalico-go/lib/validator/v3"
)

const (
	host        = "node" // every pod runs here, so that this Felix computes all their policies
	defaultTier = "default"
	anyUID      = "00000000-0000-0000-0000-000000000000" // the API server gives each object one
)

// tier is a set of policies that are judged together; those of libcalico-go's own form.
type tier struct {
	name     string
	order    float64
	passes   bool
	policies []*model.KVPair
}

// cluster is what Felix is told: endpoints and what describes them, then policies by tier.
type cluster struct {
	common []*model.KVPair
	tiers  []*tier
	pods   map[string][]netip.Addr
	judges []*judge
}

// head is what every object says of itself.
type head struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Tier          string   `json:"tier"`
		Order         *float64 `json:"order"`
		DefaultAction string   `json:"defaultAction"`
	} `json:"spec"`
}

// newCluster reads a request; policies that Calico would refuse are returned.
func newCluster(asked request) (*cluster, []refusal, error) {
	c := &cluster{pods: map[string][]netip.Addr{}}
	refused := []refusal{}
	for _, load := range []func(request) error{c.loadNamespaces, c.loadPods, c.loadSlices, c.loadTiers} {
		if err := load(asked); err != nil {
			return nil, refused, err
		}
	}
	for _, raw := range asked.Policies {
		var found head
		if err := json.Unmarshal(raw, &found); err != nil {
			return nil, refused, err
		}
		if err := c.addPolicy(found, raw); err != nil {
			refused = append(refused, refusal{
				found.Kind, found.Metadata.Namespace, found.Metadata.Name, err.Error(),
			})
		}
	}
	for _, each := range c.tiers {
		c.judges = append(c.judges, newJudge(each, c.common))
	}
	return c, refused, nil
}

func (c *cluster) loadNamespaces(asked request) error {
	converter := conversion.NewConverter()
	profiles := updateprocessors.NewProfileUpdateProcessor()
	for _, raw := range asked.Namespaces {
		var found kapiv1.Namespace
		if err := json.Unmarshal(raw, &found); err != nil {
			return err
		}
		found.UID = anyUID
		profile, err := converter.NamespaceToProfile(&found)
		if err != nil {
			return err
		}
		if err := c.add(profiles, profile); err != nil {
			return err
		}
	}
	for _, raw := range asked.Accounts {
		var found kapiv1.ServiceAccount
		if err := json.Unmarshal(raw, &found); err != nil {
			return err
		}
		found.UID = anyUID
		profile, err := converter.ServiceAccountToProfile(&found)
		if err != nil {
			return err
		}
		if err := c.add(profiles, profile); err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) loadPods(asked request) error {
	converter := conversion.NewConverter()
	endpoints := updateprocessors.NewWorkloadEndpointUpdateProcessor()
	for _, raw := range asked.Pods {
		var pod kapiv1.Pod
		if err := json.Unmarshal(raw, &pod); err != nil {
			return err
		}
		pod.Spec.NodeName = host
		found, err := converter.PodToWorkloadEndpoints(&pod)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", pod.Namespace, pod.Name, err)
		}
		for _, each := range found {
			if err := c.add(endpoints, each); err != nil {
				return fmt.Errorf("%s/%s: %w", pod.Namespace, pod.Name, err)
			}
		}
		name := pod.Namespace + "/" + pod.Name
		c.pods[name] = nil
		for _, at := range pod.Status.PodIPs {
			address, err := netip.ParseAddr(at.IP)
			if err != nil {
				return err
			}
			c.pods[name] = append(c.pods[name], address)
		}
	}
	return nil
}

func (c *cluster) loadSlices(asked request) error {
	for _, raw := range asked.Slices {
		var found discovery.EndpointSlice
		if err := json.Unmarshal(raw, &found); err != nil {
			return err
		}
		slice, err := conversion.NewConverter().EndpointSliceToKVP(&found)
		if err != nil {
			return err
		}
		c.common = append(c.common, slice)
	}
	return nil
}

// loadTiers reads the tiers in their order; a tier without order comes last, equals by name.
func (c *cluster) loadTiers(asked request) error {
	c.tiers = []*tier{{name: defaultTier, order: 1_000_000}}
	for _, raw := range asked.Policies {
		var found head
		if err := json.Unmarshal(raw, &found); err != nil {
			return err
		}
		if found.Kind != "Tier" || found.Metadata.Name == defaultTier {
			continue
		}
		order := math.Inf(1)
		if found.Spec.Order != nil {
			order = *found.Spec.Order
		}
		passes := found.Spec.DefaultAction == "Pass"
		c.tiers = append(c.tiers, &tier{name: found.Metadata.Name, order: order, passes: passes})
	}
	sort.Slice(c.tiers, func(i, j int) bool {
		if c.tiers[i].order != c.tiers[j].order {
			return c.tiers[i].order < c.tiers[j].order
		}
		return c.tiers[i].name < c.tiers[j].name
	})
	return nil
}

func (c *cluster) add(processor watchersyncer.SyncerUpdateProcessor, found *model.KVPair) error {
	converted, err := processor.Process(found)
	if err != nil {
		return err
	}
	c.common = append(c.common, converted...)
	return nil
}

// addPolicy reads a policy or a network set; staged policies do nothing, and no node is governed.
func (c *cluster) addPolicy(found head, raw []byte) error {
	switch found.Kind {
	case "Tier", "HostEndpoint",
		"StagedNetworkPolicy", "StagedGlobalNetworkPolicy", "StagedKubernetesNetworkPolicy":
		return nil
	case "NetworkSet":
		var set apiv3.NetworkSet
		return c.addSet(raw, &set, &set.ObjectMeta, updateprocessors.NewNetworkSetUpdateProcessor())
	case "GlobalNetworkSet":
		var set apiv3.GlobalNetworkSet
		return c.addSet(raw, &set, &set.ObjectMeta, updateprocessors.NewGlobalNetworkSetUpdateProcessor())
	}
	name := found.Spec.Tier
	if name == "" {
		name = defaultTier
	}
	for _, each := range c.tiers {
		if each.name == name {
			policies, err := policiesOf(found.Kind, name, raw)
			each.policies = append(each.policies, policies...)
			return err
		}
	}
	return fmt.Errorf("there is no tier %s", name)
}

func (c *cluster) addSet(
	raw []byte, set any, meta *metav1.ObjectMeta, processor watchersyncer.SyncerUpdateProcessor,
) error {
	if err := json.Unmarshal(raw, set); err != nil {
		return err
	}
	if err := validator.Validate(set); err != nil {
		return err
	}
	kind := apiv3.KindGlobalNetworkSet
	if meta.Namespace != "" {
		kind = apiv3.KindNetworkSet
	}
	return c.add(processor, pair(kind, meta, set))
}

// policiesOf reads a policy as the API server would take it, into what Felix is told of it.
//
// A tier's name before the policy's own is no part of it, for the tier is judged by itself.
func policiesOf(kind, tier string, raw []byte) ([]*model.KVPair, error) {
	switch {
	case kind == "GlobalNetworkPolicy":
		var found apiv3.GlobalNetworkPolicy
		if err := json.Unmarshal(raw, &found); err != nil {
			return nil, err
		}
		found.Name = strings.TrimPrefix(found.Name, tier+".")
		spec := &found.Spec
		defaultTypes(spec.Ingress, spec.Egress, &spec.Types)
		if err := validator.Validate(&found); err != nil {
			return nil, err
		}
		return updateprocessors.NewGlobalNetworkPolicyUpdateProcessor().Process(
			pair(apiv3.KindGlobalNetworkPolicy, &found.ObjectMeta, &found))
	case kind == "NetworkPolicy" && isKubernetes(raw):
		var found networkingv1.NetworkPolicy
		if err := json.Unmarshal(raw, &found); err != nil {
			return nil, err
		}
		found.UID = anyUID
		converted, err := conversion.NewConverter().K8sNetworkPolicyToCalico(&found)
		if err != nil {
			return nil, err
		}
		return updateprocessors.NewNetworkPolicyUpdateProcessor().Process(converted)
	case kind == "NetworkPolicy":
		var found apiv3.NetworkPolicy
		if err := json.Unmarshal(raw, &found); err != nil {
			return nil, err
		}
		found.Name = strings.TrimPrefix(found.Name, tier+".")
		spec := &found.Spec
		defaultTypes(spec.Ingress, spec.Egress, &spec.Types)
		if err := validator.Validate(&found); err != nil {
			return nil, err
		}
		return updateprocessors.NewNetworkPolicyUpdateProcessor().Process(
			pair(apiv3.KindNetworkPolicy, &found.ObjectMeta, &found))
	}
	return nil, fmt.Errorf("not a policy of Calico's")
}

func isKubernetes(raw []byte) bool {
	var found metav1.TypeMeta
	return json.Unmarshal(raw, &found) == nil && found.APIVersion == "networking.k8s.io/v1"
}

// defaultTypes is what the API server writes where nothing is said (clientv3, not exported there).
func defaultTypes(ingress, egress []apiv3.Rule, types *[]apiv3.PolicyType) {
	switch {
	case len(*types) > 0:
	case len(egress) == 0:
		*types = []apiv3.PolicyType{apiv3.PolicyTypeIngress}
	case len(ingress) == 0:
		*types = []apiv3.PolicyType{apiv3.PolicyTypeEgress}
	default:
		*types = []apiv3.PolicyType{apiv3.PolicyTypeIngress, apiv3.PolicyTypeEgress}
	}
}

func pair(kind string, meta *metav1.ObjectMeta, value any) *model.KVPair {
	key := model.ResourceKey{Kind: kind, Name: meta.Name, Namespace: meta.Namespace}
	return &model.KVPair{Key: key, Value: value}
}
