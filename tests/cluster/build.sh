#!/bin/sh
# Builds etcd and kube-apiserver from their Go modules, and takes the CRDs of the policies' vendors:
# Cilium's and the network-policy API's as they ship them, Calico's made of its own Go types.
set -eu
cd "$(dirname "$0")"
out=$1
rm -rf "$out/crds"
mkdir -p "$out/crds"
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v1.}
minor=${minor%%.*}
base=k8s.io/component-base/version
export CGO_ENABLED=0
go build -ldflags '-s -w' -o "$out/etcd" go.etcd.io/etcd/server/v3
go build -ldflags \
  "-s -w -X $base.gitVersion=$version -X $base.gitMajor=1 -X $base.gitMinor=$minor" \
  -o "$out/kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver

# Tools of the tests, where the machine has none.
command -v kubectl >/dev/null || go build -ldflags '-s -w' -o "$out/kubectl" \
  k8s.io/kubernetes/cmd/kubectl
command -v helm >/dev/null \
  || GOBIN="$out" go install -ldflags '-s -w' helm.sh/helm/v3/cmd/helm@v3.19.5

folder() { go mod download -json "$1" | sed -n 's/^\t"Dir": "\(.*\)",\{0,1\}$/\1/p'; }
cilium=$(folder github.com/cilium/cilium@v1.20.2)
network=$(folder sigs.k8s.io/network-policy-api@v0.2.0)
calico=$(folder github.com/projectcalico/api@v0.0.0-20250916150628-d4009e4d7c50)
for kind in networkpolicies clusterwidenetworkpolicies cidrgroups; do
  cat "$cilium/pkg/k8s/apis/cilium.io/client/crds/v2/cilium$kind.yaml" >"$out/crds/cilium$kind.yaml"
done
kind=policy.networking.k8s.io_clusternetworkpolicies.yaml
cat "$network/config/crd/standard/$kind" >"$out/crds/$kind"
cd "$calico"
go run -mod=mod sigs.k8s.io/controller-tools/cmd/controller-gen@v0.19.0 \
  crd:allowDangerousTypes=true paths=./pkg/apis/projectcalico/v3 "output:crd:dir=$out/calico"
for kind in globalnetworkpolicies globalnetworksets hostendpoints networkpolicies networksets \
  profiles stagedglobalnetworkpolicies stagedkubernetesnetworkpolicies stagednetworkpolicies tiers; do
  mv "$out/calico/projectcalico.org_$kind.yaml" "$out/crds/"
done
rm -rf "$out/calico"
