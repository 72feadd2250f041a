# The node: kubelet, containerd, kube-proxy and pods live in mount, process and network namespaces of their own,
# tied to one process. When that ends, the kernel ends all the others, unmounts everything and removes every link,
# route and rule. Several nodes run side by side on one machine, each with the usual paths and ports.
# shellcheck shell=bash disable=SC2154  # settings come from lib/state.sh

link() { REPLY=sk$subnet; }

cgroup_name() { REPLY=stagekeeper-$name; }

# The process that holds the namespaces: the only child of the recorded `unshare`.
node_pid() {
  alive node || return 1
  REPLY=$(ps --ppid "$pid" -o pid= | tr -d ' ')
  [[ -n $REPLY ]]
}

in_node() {
  node_pid || return 1
  nsenter --target "$REPLY" --mount --uts --ipc --net --pid -- "$@" 9>&-
}

launch_node() {
  launch host node unshare --mount --uts --ipc --net --pid --fork --kill-child --mount-proc "$tools/pause"
  await 10 node node_pid
  make_cgroups
  furnish_node
  connect_node
}

# Folders with fixed names that programs on the node use (/run/containerd, /var/lib/kubelet, /var/log/pods,
# /tmp/hostpath_pv …) are the node's own: either in memory or below the cluster's folder. What the cluster itself has below
# one of them stays where it is.
furnish_node() {
  mkdir -p "$dir/node/"{containerd,kubelet,logs,tmp}
  # shellcheck disable=SC2016
  in_node bash -euc '
    dir=$1 tools=$2 hostname=$3
    mount --make-rprivate /
    mount -t tmpfs -o mode=755 tmpfs /mnt
    mkdir /mnt/dir /mnt/tools
    mount --bind "$dir" /mnt/dir
    mount --bind "$tools" /mnt/tools
    for folder in /run /tmp /var/lib /var/log; do mount -t tmpfs -o mode=755 tmpfs "$folder"; done
    mkdir -p "$dir" "$tools" /run/lock /run/netns /tmp/hostpath_pv /var/lib/{containerd,kubelet} /var/log/pods
    mount --bind /mnt/dir "$dir"
    mount --bind /mnt/tools "$tools"
    umount /mnt/dir /mnt/tools
    umount /mnt
    mount --bind "$dir/node/containerd" /var/lib/containerd
    mount --bind "$dir/node/kubelet" /var/lib/kubelet
    mount --bind "$dir/node/logs" /var/log/pods
    mount --bind "$dir/node/tmp" /tmp/hostpath_pv
    mount --make-rshared /
    hostname "$hostname"
  ' _ "$dir" "$tools" "$name" >"$logs/node.log" 2>&1 ||
    die "making the node's folders" "hack/cluster down $name; hack/cluster up $name" "$logs/node.log"
}

connect_node() {
  local device node
  link; device=$REPLY
  node_pid; node=$REPLY
  {
    ip link add "$device" type veth peer name eth0 netns "$node" &&
      ip address add "10.$subnet.0.1/24" dev "$device" &&
      ip link set "$device" up &&
      in_node bash -euc "
        ip link set lo up
        ip address add 10.$subnet.0.2/24 dev eth0
        ip link set eth0 up
        ip route add default via 10.$subnet.0.1
        echo 1 >/proc/sys/net/ipv4/ip_forward
      " &&
      ip route add "10.$subnet.0.0/16" via "10.$subnet.0.2" dev "$device"
  } >>"$logs/node.log" 2>&1 ||
    die "connecting the node (link $device, 10.$subnet.0.0/16)" "hack/cluster down $name; hack/cluster up $name" "$logs/node.log"
}

# Where control groups can be made: each v1 hierarchy, or the one of v2.
cgroup_hierarchies() { awk '$3 == "cgroup" || $3 == "cgroup2" {print $2}' /proc/self/mounts; }

make_cgroups() {
  local hierarchy group file
  cgroup_name
  while read -r hierarchy; do
    group=$hierarchy/$REPLY
    mkdir -p "$group"
    # cpuset (v1) begins empty, and nothing can run below an empty one.
    for file in cpuset.cpus cpuset.mems; do
      if [[ -e $group/$file && -s $hierarchy/$file ]]; then cat "$hierarchy/$file" >"$group/$file" 2>/dev/null || true; fi
    done
    # v2 hands down only what is asked for.
    if [[ -e $group/cgroup.subtree_control ]]; then
      for file in cpu cpuset io memory pids; do
        echo "+$file" >"$hierarchy/cgroup.subtree_control" || true
        echo "+$file" >"$group/cgroup.subtree_control" || true
      done 2>/dev/null
    fi
  done < <(cgroup_hierarchies)
}

remove_cgroups() {
  local hierarchy
  cgroup_name
  while read -r hierarchy; do
    [[ -d $hierarchy/$REPLY ]] || continue
    # A group is busy for a moment after its last process has gone.
    wait_until 5 rmdir_tree "$hierarchy/$REPLY" || say "note: $hierarchy/$REPLY is still in use"
  done < <(cgroup_hierarchies)
}

rmdir_tree() {
  find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
  [[ ! -d $1 ]]
}

# A pod's first container only holds its namespaces; its image is a static program of ours.
push_pause_image() {
  local image=127.0.0.1:$registry_port/pause:1
  tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --directory "$tools" pause >"$dir/pause.tar"
  {
    "$tools/crane" append --oci-empty-base --new_layer "$dir/pause.tar" --new_tag "$image" &&
      "$tools/crane" mutate "$image" --entrypoint /pause --set-platform linux/amd64 --tag "$image"
  } >"$logs/pause-image.log" 2>&1 || die "pushing the pause image" "hack/cluster up $name" "$logs/pause-image.log"
}

launch_containerd() {
  local host
  mkdir -p "$dir/node/cni"
  # The second name is the one that pods reach it by.
  for host in "127.0.0.1:$registry_port" "10.$subnet.0.2:$registry_port"; do
    mkdir -p "$dir/node/registries/$host"
    cat >"$dir/node/registries/$host/hosts.toml" <<EOF
server = "http://$host"
[host."http://$host"]
  capabilities = ["pull", "resolve"]
EOF
  done
  # Pods are routed, not bridged: no kernel module is needed for service addresses to work between pods of one node.
  cat >"$dir/node/cni/10-stagekeeper.conflist" <<EOF
{
  "cniVersion": "0.4.0", "name": "stagekeeper",
  "plugins": [{
    "type": "ptp", "ipMasq": false,
    "ipam": {
      "type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": "10.$subnet.16.0/20"}]],
      "routes": [{"dst": "0.0.0.0/0"}]
    }
  }]
}
EOF
  # restrict_oom_score_adj: without CAP_SYS_RESOURCE, as on many virtual machines, runc could not start anything.
  cat >"$dir/node/containerd.toml" <<EOF
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "127.0.0.1:$registry_port/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$dir/node/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "$dir/node/registries"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
EOF
  launch node containerd containerd --config "$dir/node/containerd.toml" --log-level warn
}

containerd_ready() { in_node test -S /run/containerd/containerd.sock; }

launch_kubelet() {
  cgroup_name
  cat >"$dir/node/kubelet.yaml" <<EOF
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: false}
  x509: {clientCAFile: $pki/ca.crt}
authorization: {mode: AlwaysAllow}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /$REPLY
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
volumePluginDir: $dir/plugins
resolvConf: ""
clusterDomain: cluster.local
clusterDNS: ["10.$subnet.0.2"]
maxPods: 500
serializeImagePulls: false
registryPullQPS: 0
eventRecordQPS: 0
kubeAPIQPS: 500
kubeAPIBurst: 1000
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
EOF
  launch node kubelet "$tools/kubelet" --config "$dir/node/kubelet.yaml" --kubeconfig "$pki/kubelet.kubeconfig" \
    --hostname-override "$name" --node-ip "10.$subnet.0.2"
}

launch_proxy() {
  cat >"$dir/node/proxy.yaml" <<EOF
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $pki/proxy.kubeconfig}
clusterCIDR: 10.$subnet.16.0/20
hostnameOverride: $name
oomScoreAdj: 0
nftables: {minSyncPeriod: 0s, syncPeriod: 30s}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
EOF
  launch node proxy "$tools/kube-proxy" --config "$dir/node/proxy.yaml"
}

proxy_ready() { in_node curl --silent --fail --max-time 2 http://127.0.0.1:10256/healthz; }

# Claims without a class get a folder on the node; the controller manager makes and removes it.
make_storage_class() {
  kubectl apply -f - >"$logs/storage-class.log" 2>&1 <<EOF || die "creating the storage class" "hack/cluster up $name" "$logs/storage-class.log"
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: standard
  annotations: {storageclass.kubernetes.io/is-default-class: "true"}
provisioner: kubernetes.io/host-path
reclaimPolicy: Delete
EOF
}
