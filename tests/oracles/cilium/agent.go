package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	cmtypes "github.com/cilium/cilium/pkg/clustermesh/types"
	envoypolicy "github.com/cilium/cilium/pkg/envoy/policy"
	"github.com/cilium/cilium/pkg/fqdn"
	"github.com/cilium/cilium/pkg/fqdn/dns"
	"github.com/cilium/cilium/pkg/fqdn/namemanager"
	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/identity/identitymanager"
	"github.com/cilium/cilium/pkg/ipcache"
	ipcachetypes "github.com/cilium/cilium/pkg/ipcache/types"
	"github.com/cilium/cilium/pkg/k8s"
	ciliumio "github.com/cilium/cilium/pkg/k8s/apis/cilium.io"
	slim_corev1 "github.com/cilium/cilium/pkg/k8s/slim/k8s/api/core/v1"
	"github.com/cilium/cilium/pkg/labels"
	"github.com/cilium/cilium/pkg/labelsfilter"
	"github.com/cilium/cilium/pkg/option"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/policy/api"
	"github.com/cilium/cilium/pkg/source"
	testcertificatemanager "github.com/cilium/cilium/pkg/testutils/certificatemanager"
	testidentity "github.com/cilium/cilium/pkg/testutils/identity"
	testpolicy "github.com/cilium/cilium/pkg/testutils/policy"
	"github.com/cilium/cilium/pkg/types"
)

const patience = 30 * time.Second

// agent holds what the agent of one node knows: identities, addresses, names and rules.
type agent struct {
	logger     *slog.Logger
	stop       context.CancelFunc
	context    context.Context
	allocator  *testidentity.MockIdentityAllocator
	identities identitymanager.IDManager
	repository *policy.Repository
	cache      *ipcache.IPCache
	names      namemanager.NameManager
	namespaces map[string]*slim_corev1.Namespace
	pods       map[string]*endpoint
	local      string
}

// configure sets what an agent's flags would: their defaults, but node labels that policies may use.
func configure(logger *slog.Logger) error {
	option.Config.EnableIPv4 = true
	option.Config.EnableIPv6 = true
	option.Config.UnsafeDaemonConfigOption.AllowLocalhost = option.AllowLocalhostAlways
	option.Config.EnableNodeSelectorLabels = true
	policy.SetPolicyEnabled(option.DefaultEnforcement)
	return labelsfilter.ParseLabelPrefixCfg(logger, nil, nil, "")
}

func newAgent(logger *slog.Logger, asked request, local string) *agent {
	option.Config.ClusterName = asked.Cluster
	api.InitEntities(asked.Cluster)
	ctx, stop := context.WithCancel(context.Background())
	a := &agent{
		logger:     logger,
		stop:       stop,
		context:    ctx,
		allocator:  testidentity.NewMockIdentityAllocator(nil),
		identities: identitymanager.NewIDManager(logger),
		namespaces: map[string]*slim_corev1.Namespace{},
		pods:       map[string]*endpoint{},
		local:      local,
	}
	// The host's labels are global there; the agent before has left those of another node.
	identity.AddReservedIdentityWithLabels(identity.ReservedIdentityHost, labels.NewFrom(labels.LabelHost))
	reserved := identity.IdentityMap{}
	identity.IterateReservedIdentities(func(id identity.NumericIdentity, found *identity.Identity) {
		reserved[id] = found.LabelArray
	})
	a.repository = policy.NewPolicyRepository(
		logger, reserved, &testcertificatemanager.Fake{},
		envoypolicy.NewEnvoyL7RulesTranslator(logger, nil), a.identities,
		testpolicy.NewPolicyMetricsNoop(),
	)
	a.cache = ipcache.NewIPCache(&ipcache.Configuration{
		Context: ctx, Logger: logger, IdentityAllocator: a.allocator, IdentityUpdater: a,
	})
	a.repository.SetNamedPortsGetter(a.cache)
	a.names = namemanager.New(namemanager.ManagerParams{
		PolicyRepo: a.repository,
		Logger:     logger,
		Config:     namemanager.NameManagerConfig{DNSProxyLockCount: 1, EnableIPv4: true, EnableIPv6: true},
		IPCache:    a.cache,
		Allocator:  a.allocator,
	})
	return a
}

func (a *agent) close() {
	a.cache.Shutdown()
	a.stop()
}

// UpdateIdentities makes new identities known to selectors, as the agent's own updater does.
func (a *agent) UpdateIdentities(added, deleted identity.IdentityMap) <-chan struct{} {
	wait := &sync.WaitGroup{}
	a.repository.GetSelectorCache().UpdateIdentities(added, deleted, wait)
	a.repository.UpdateIdentities(added, deleted)
	done := make(chan struct{})
	go func() {
		wait.Wait()
		close(done)
	}()
	return done
}

// load makes the cluster and its policies known; those that the agent would refuse are returned.
func (a *agent) load(asked request) ([]refusal, error) {
	if err := a.loadPods(asked); err != nil {
		return nil, err
	}
	if err := a.loadNodes(asked); err != nil {
		return nil, err
	}
	refused, err := a.loadPolicies(asked)
	if err != nil {
		return refused, err
	}
	// Policies come first: only names that they select get identities.
	for _, pod := range a.pods {
		if pod.node != a.local {
			continue
		}
		if err := pod.resolve(a); err != nil {
			return refused, err
		}
	}
	return refused, a.loadNames(asked.Names)
}

func (a *agent) loadPods(asked request) error {
	for _, raw := range asked.Namespaces {
		var namespace slim_corev1.Namespace
		if err := json.Unmarshal(raw, &namespace); err != nil {
			return err
		}
		a.namespaces[namespace.Name] = &namespace
	}
	for _, raw := range asked.Pods {
		var pod slim_corev1.Pod
		if err := json.Unmarshal(raw, &pod); err != nil {
			return err
		}
		if err := a.addPod(&pod); err != nil {
			return fmt.Errorf("%s/%s: %w", pod.Namespace, pod.Name, err)
		}
	}
	return nil
}

// addPod gives a pod the identity that the agent would (pkg/endpoint/metadata, fetch metadata).
func (a *agent) addPod(pod *slim_corev1.Pod) error {
	namespace, ok := a.namespaces[pod.Namespace]
	if !ok {
		return fmt.Errorf("no namespace %s", pod.Namespace)
	}
	ports, given := k8s.GetPodMetadata(a.logger, namespace, pod)
	relevant, _ := labelsfilter.Filter(labels.Map2Labels(given, labels.LabelSourceK8s))
	for _, label := range k8s.NamedPortsIdentityLabels(ports) {
		relevant[label.Key] = label
	}
	found, isNew, err := a.allocator.AllocateIdentity(a.context, relevant, false, identity.InvalidIdentity)
	if err != nil {
		return err
	}
	if isNew {
		<-a.UpdateIdentities(identity.IdentityMap{found.ID: found.LabelArray}, nil)
	}
	a.identities.Add(found)
	name := pod.Namespace + "/" + pod.Name
	for _, at := range pod.Status.PodIPs {
		if err := a.addAddress(at.IP, pod, ports, found); err != nil {
			return err
		}
	}
	a.pods[name] = &endpoint{
		id: uint64(len(a.pods) + 1), identity: found, ports: ports, node: pod.Spec.NodeName,
	}
	return nil
}

func (a *agent) addAddress(
	at string, pod *slim_corev1.Pod, ports types.NamedPortMap, found *identity.Identity,
) error {
	metadata := &ipcache.K8sMetadata{Namespace: pod.Namespace, PodName: pod.Name, NamedPorts: ports}
	_, err := a.cache.Upsert(at, net.ParseIP("127.0.0.1"), 0, metadata, ipcache.Identity{
		ID: found.ID, Source: source.Kubernetes,
	})
	return err
}

// loadNodes labels the addresses of nodes and of the API server as the agent's node manager does.
func (a *agent) loadNodes(asked request) error {
	var updates []ipcache.MU
	for _, each := range asked.Nodes {
		own := labels.NewFrom(labels.LabelRemoteNode)
		if each.Name == a.local {
			own = labels.NewFrom(labels.LabelHost)
		}
		named := labels.Map2Labels(each.Labels, labels.LabelSourceNode)
		relevant, _ := labelsfilter.FilterNodeLabels(named)
		own.MergeLabels(relevant)
		own.MergeLabels(labels.Map2Labels(
			map[string]string{ciliumio.PolicyLabelCluster: asked.Cluster}, labels.LabelSourceK8s))
		for _, text := range each.Addresses {
			at, err := netip.ParseAddr(text)
			if err != nil {
				continue // a node's host name
			}
			updates = append(updates, metadata(at, "node-"+each.Name, own))
		}
	}
	for _, text := range asked.APIServers {
		at, err := netip.ParseAddr(text)
		if err != nil {
			return err
		}
		updates = append(updates, metadata(at, "apiserver", labels.NewFrom(labels.LabelKubeAPIServer)))
	}
	return a.upsert(updates)
}

func metadata(at netip.Addr, name string, given labels.Labels) ipcache.MU {
	return ipcache.MU{
		Prefix:   cmtypes.NewLocalPrefixCluster(netip.PrefixFrom(at, at.BitLen())),
		Source:   source.CustomResource,
		Resource: ipcachetypes.NewResourceID(ipcachetypes.ResourceKindNode, "", name),
		Metadata: []ipcache.IPMetadata{given},
	}
}

func (a *agent) upsert(updates []ipcache.MU) error {
	if len(updates) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(a.context, patience)
	defer cancel()
	return a.cache.WaitForRevision(ctx, a.cache.UpsertMetadataBatch(updates...))
}

// loadNames tells the agent of DNS answers, as its DNS proxy does when a pod has asked.
func (a *agent) loadNames(names map[string][]string) error {
	ctx, cancel := context.WithTimeout(a.context, patience)
	defer cancel()
	for name, given := range names {
		record := &fqdn.DNSIPRecords{TTL: 86400}
		for _, text := range given {
			at, err := netip.ParseAddr(text)
			if err != nil {
				return err
			}
			record.IPs = append(record.IPs, at)
		}
		if err := <-a.names.UpdateGenerateDNS(ctx, time.Now(), dns.FQDN(name), record); err != nil {
			return err
		}
	}
	return nil
}
