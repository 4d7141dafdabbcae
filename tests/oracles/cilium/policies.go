package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"

	"github.com/cilium/statedb"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	cmtypes "github.com/cilium/cilium/pkg/clustermesh/types"
	"github.com/cilium/cilium/pkg/ipcache"
	ipcachetypes "github.com/cilium/cilium/pkg/ipcache/types"
	"github.com/cilium/cilium/pkg/k8s"
	v2 "github.com/cilium/cilium/pkg/k8s/apis/cilium.io/v2"
	slim_networkingv1 "github.com/cilium/cilium/pkg/k8s/slim/k8s/api/networking/v1"
	"github.com/cilium/cilium/pkg/k8s/utils"
	"github.com/cilium/cilium/pkg/labels"
	"github.com/cilium/cilium/pkg/loadbalancer"
	"github.com/cilium/cilium/pkg/option"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/policy/api"
	policyk8s "github.com/cilium/cilium/pkg/policy/k8s"
	policytypes "github.com/cilium/cilium/pkg/policy/types"
	policyutils "github.com/cilium/cilium/pkg/policy/utils"
	"github.com/cilium/cilium/pkg/source"
)

// head is what every object says of itself.
type head struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Namespace string `json:"namespace"`
		Name      string `json:"name"`
	} `json:"metadata"`
}

// loadPolicies imports every policy, with identities for its blocks (pkg/policy/cell, importer).
func (a *agent) loadPolicies(asked request) ([]refusal, error) {
	services, err := newServices(asked.Services)
	if err != nil {
		return nil, err
	}
	refused := []refusal{}
	for i, raw := range asked.Policies {
		var found head
		if err := json.Unmarshal(raw, &found); err != nil {
			return refused, err
		}
		entries, err := a.entries(found.Kind, raw, services)
		if err != nil {
			refused = append(refused, refusal{
				found.Kind, found.Metadata.Namespace, found.Metadata.Name, err.Error(),
			})
			continue
		}
		kind := ipcachetypes.ResourceKind(fmt.Sprintf("%s-%d", found.Kind, i))
		resource := ipcachetypes.NewResourceID(kind, found.Metadata.Namespace, found.Metadata.Name)
		if err := a.upsert(prefixes(entries, resource)); err != nil {
			return refused, err
		}
		a.repository.ReplaceByResource(entries, resource)
	}
	return refused, nil
}

func prefixes(entries policytypes.PolicyEntries, resource ipcachetypes.ResourceID) []ipcache.MU {
	var updates []ipcache.MU
	for _, prefix := range policy.GetCIDRPrefixes(entries) {
		updates = append(updates, ipcache.MU{
			Prefix:   cmtypes.NewLocalPrefixCluster(prefix),
			Source:   source.CustomResource,
			Resource: resource,
			Metadata: []ipcache.IPMetadata{labels.GetCIDRLabels(prefix)},
			IsCIDR:   true,
		})
	}
	return updates
}

// entries are the rules of one object, for the pods of the agent's own cluster, as by its default.
func (a *agent) entries(kind string, raw []byte, services *services) (policytypes.PolicyEntries, error) {
	cluster := cmtypes.LocalClusterNameForPolicies(cmtypes.DefaultPolicyConfig, option.Config.ClusterName)
	switch kind {
	case "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy":
		// The agent reads both as one type (pkg/policy/k8s, watcher); its Parse tells them apart.
		var found v2.CiliumNetworkPolicy
		if err := json.Unmarshal(raw, &found); err != nil {
			return nil, err
		}
		services.resolve(&found)
		rules, err := found.Parse(a.logger, cluster)
		if err != nil {
			return nil, err
		}
		return policyutils.RulesToPolicyEntries(rules), nil
	case "NetworkPolicy":
		var found slim_networkingv1.NetworkPolicy
		if err := json.Unmarshal(raw, &found); err != nil {
			return nil, err
		}
		return k8s.ParseNetworkPolicy(a.logger, cluster, &found)
	case "ClusterNetworkPolicy":
		var found policyv1alpha2.ClusterNetworkPolicy
		if err := json.Unmarshal(raw, &found); err != nil {
			return nil, err
		}
		return k8s.ParseClusterNetworkPolicy(a.logger, cluster, &found)
	case "CiliumCIDRGroup":
		var found v2.CiliumCIDRGroup
		if err := json.Unmarshal(raw, &found); err != nil {
			return nil, err
		}
		return nil, a.addGroup(&found)
	}
	return nil, fmt.Errorf("not a policy of Cilium's")
}

// addGroup labels a group's blocks (pkg/policy/k8s, applyCIDRGroup, which is not exported).
func (a *agent) addGroup(group *v2.CiliumCIDRGroup) error {
	named := labels.Labels{}
	for key, value := range utils.RemoveCiliumLabels(group.Labels) {
		label := labels.NewLabel(key, value, labels.LabelSourceCIDRGroup)
		named[label.Key] = label
		encoded := labels.EncodedCIDRGroupLabel(label.Key, label.Value, label.Source)
		named[encoded.Key] = encoded
	}
	reference := api.LabelForCIDRGroupRef(group.Name)
	named[reference.Key] = reference
	var updates []ipcache.MU
	for _, block := range group.Spec.ExternalCIDRs {
		prefix, err := netip.ParsePrefix(string(block))
		if err != nil {
			return err
		}
		own := maps.Clone(named)
		own.AddWorldLabel(prefix.Addr())
		updates = append(updates, ipcache.MU{
			Prefix:   cmtypes.NewLocalPrefixCluster(prefix),
			Source:   source.Generated,
			Resource: ipcachetypes.NewResourceID(ipcachetypes.ResourceKindCIDRGroup, "", group.Name),
			Metadata: []ipcache.IPMetadata{own},
		})
	}
	return a.upsert(updates)
}

// services are the agent's tables of Services and of what stands behind them.
type services struct {
	db       *statedb.DB
	services statedb.RWTable[*loadbalancer.Service]
	backends statedb.RWTable[*loadbalancer.Backend]
}

func newServices(given []service) (*services, error) {
	db := statedb.New()
	table, err := loadbalancer.NewServicesTable(loadbalancer.DefaultConfig, db)
	if err != nil {
		return nil, err
	}
	backends, err := loadbalancer.NewBackendsTable(db)
	if err != nil {
		return nil, err
	}
	txn := db.WriteTxn(table, backends)
	for _, each := range given {
		name := loadbalancer.NewServiceName(each.Namespace, each.Name)
		_, _, err := table.Insert(txn, &loadbalancer.Service{
			Name: name, Source: source.Kubernetes, Selector: each.Selector,
			Labels: labels.Map2Labels(each.Labels, labels.LabelSourceK8s),
		})
		if err != nil {
			return nil, err
		}
		if err := insertBackends(txn, backends, name, each); err != nil {
			return nil, err
		}
	}
	txn.Commit()
	return &services{db, table, backends}, nil
}

func insertBackends(
	txn statedb.WriteTxn, backends statedb.RWTable[*loadbalancer.Backend],
	name loadbalancer.ServiceName, given service,
) error {
	for _, text := range given.Addresses {
		at, err := cmtypes.ParseAddrCluster(text)
		if err != nil {
			return err
		}
		_, _, err = backends.Insert(txn, &loadbalancer.Backend{
			ServiceName: name, Source: source.Kubernetes,
			Address: loadbalancer.NewL3n4Addr(loadbalancer.TCP, at, 1, loadbalancer.ScopeExternal),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *services) resolve(found *v2.CiliumNetworkPolicy) {
	policyk8s.ResolveToServices(s.db.ReadTxn(), s.services, s.backends, found)
}
