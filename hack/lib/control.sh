# The control plane and its companions on the host: certificates, etcd, API server, controller manager,
# scheduler, kwok, Postgres, registry.
# shellcheck shell=bash disable=SC2154  # settings come from lib/state.sh

api_address=https://127.0.0.1

# The addresses of a cluster, all from its subnet 10.X.0.0/16: .0.1 the host's end of the link to the node, .0.2 the
# node's, .16.0/20 pods (fake ones: .64.0/18), .128.0/17 services: a benchmark has thousands.
host_ip() { REPLY=10.$subnet.0.1; }

certificate() { # FILE SUBJECT USAGE [SUBJECT-ALT-NAMES]
  openssl ecparam -name prime256v1 -genkey -noout -out "$pki/$1.key"
  openssl req -new -key "$pki/$1.key" -subj "$2" -out "$pki/$1.csr"
  openssl x509 -req -in "$pki/$1.csr" -CA "$pki/ca.crt" -CAkey "$pki/ca.key" -CAcreateserial -days 365 -out "$pki/$1.crt" \
    -extfile <(printf 'extendedKeyUsage=%s\n' "$3"; [[ -z ${4:-} ]] || printf 'subjectAltName=%s\n' "$4")
}

make_credentials() {
  umask 077
  mkdir -p "$pki"
  {
    openssl ecparam -name prime256v1 -genkey -noout -out "$pki/ca.key"
    openssl req -x509 -new -key "$pki/ca.key" -subj "/CN=stagekeeper-$name" -days 365 -out "$pki/ca.crt" \
      -addext keyUsage=critical,keyCertSign,cRLSign
    certificate apiserver /CN=kube-apiserver serverAuth \
      "IP:127.0.0.1,IP:10.$subnet.0.1,IP:10.$subnet.128.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
    certificate kubelet-client /O=system:masters/CN=kube-apiserver clientAuth
    openssl genrsa -out "$pki/service-account.key" 2048
  } >>"$logs/pki.log" 2>&1 || die "making certificates" "check that \`openssl version\` says 3.0 or newer" "$logs/pki.log"

  : >"$pki/tokens.csv"
  local who
  for who in admin:system:masters system:kube-controller-manager: system:kube-scheduler: system:kube-proxy: \
    "system:node:$name:system:nodes" kwok:system:masters; do
    add_user "$who"
  done
  umask 022
}

# add_user USER:GROUP: a token for it, and a kubeconfig named after the last part of the user's name.
add_user() {
  local user group file token
  case $1 in
    system:node:*) user=system:node:$name group=system:nodes file=kubelet ;;
    *:system:masters) user=${1%%:*} group=system:masters file=$user ;;
    *) user=${1%:} group='' file=${user#system:kube-} ;;
  esac
  token=$(openssl rand -hex 24)
  printf '%s,%s,%s,"%s"\n' "$token" "$user" "$user" "$group" >>"$pki/tokens.csv"
  local server=$api_address
  # What runs on the node reaches the API server over the link.
  if [[ $file == kubelet || $file == proxy ]]; then server=https://10.$subnet.0.1; fi
  local kubeconfig=$pki/$file.kubeconfig
  if [[ $file == admin ]]; then
    kubeconfig=$dir/kubeconfig
    printf '%s' "$token" >"$pki/admin.token"
  fi
  cat >"$kubeconfig" <<EOF
apiVersion: v1
kind: Config
clusters:
- name: $name
  cluster:
    server: $server:$api_port
    certificate-authority-data: $(base64 -w0 "$pki/ca.crt")
users:
- name: $file
  user: {token: $token}
contexts:
- name: $name
  context: {cluster: $name, user: $file}
current-context: $name
EOF
}

kubectl() { "$tools/kubectl" --kubeconfig "$dir/kubeconfig" "$@"; }

api() { curl --silent --fail --max-time 5 --cacert "$pki/ca.crt" -H "Authorization: Bearer $(<"$pki/admin.token")" "$api_address:$api_port$1"; }

launch_etcd() {
  # Throw-away data: nothing waits for the disk.
  launch host etcd "$tools/etcd" --name "$name" --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn \
    --listen-client-urls "http://127.0.0.1:$etcd_port" --advertise-client-urls "http://127.0.0.1:$etcd_port" \
    --listen-peer-urls "http://127.0.0.1:$etcd_peer_port" --initial-advertise-peer-urls "http://127.0.0.1:$etcd_peer_port" \
    --initial-cluster "$name=http://127.0.0.1:$etcd_peer_port" --quota-backend-bytes 8589934592
}

etcd_ready() { curl --silent --fail --max-time 2 "http://127.0.0.1:$etcd_port/health"; }

launch_apiserver() {
  local address=(--bind-address 127.0.0.1 --advertise-address 127.0.0.1 --endpoint-reconciler-type none)
  if [[ $profile == node ]]; then
    address=(--bind-address 0.0.0.0 --advertise-address "10.$subnet.0.1")
  fi
  local audit_flags=()
  if [[ -n ${audit:-} ]]; then
    audit_flags=(--audit-policy-file "$audit" --audit-log-path "$logs/audit.log" --audit-log-maxsize 0)
  fi
  # Fair queuing is off, so that no test or benchmark measures its queues; the plain limits are far above what one
  # machine reaches.
  launch host apiserver "$tools/kube-apiserver" "${address[@]}" --secure-port "$api_port" \
    --etcd-servers "http://127.0.0.1:$etcd_port" --service-cluster-ip-range "10.$subnet.128.0/17" \
    --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" --cert-dir "$pki" \
    --client-ca-file "$pki/ca.crt" --token-auth-file "$pki/tokens.csv" \
    --kubelet-client-certificate "$pki/kubelet-client.crt" --kubelet-client-key "$pki/kubelet-client.key" \
    --kubelet-preferred-address-types InternalIP --authorization-mode Node,RBAC --allow-privileged=true \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file "$pki/service-account.key" --service-account-signing-key-file "$pki/service-account.key" \
    --enable-priority-and-fairness=false --max-requests-inflight 3000 --max-mutating-requests-inflight 3000 \
    --profiling=false "${audit_flags[@]}"
}

apiserver_ready() { api /readyz; }

launch_controller_manager() {
  # The clients' own limits are lifted and the workers are many: what the operator is measured against is the API
  # server, not a queue in here.
  local workers=() controller where=host volumes=()
  for controller in deployment replicaset job endpoint service-endpoint gc namespace; do
    workers+=("--concurrent-$controller-syncs=50")
  done
  if [[ $profile == node ]]; then
    where=mounts volumes=(--enable-hostpath-provisioner=true)
  fi
  launch "$where" controller-manager "$tools/kube-controller-manager" --kubeconfig "$pki/controller-manager.kubeconfig" \
    --leader-elect=false --secure-port 0 --use-service-account-credentials \
    --service-account-private-key-file "$pki/service-account.key" --root-ca-file "$pki/ca.crt" \
    --kube-api-qps 2000 --kube-api-burst 4000 "${workers[@]}" "${volumes[@]}" \
    --flex-volume-plugin-dir "$dir/plugins" --profiling=false
}

launch_scheduler() {
  cat >"$dir/scheduler.yaml" <<EOF
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection: {kubeconfig: $pki/scheduler.kubeconfig, qps: 2000, burst: 4000}
leaderElection: {leaderElect: false}
EOF
  launch host scheduler "$tools/kube-scheduler" --config "$dir/scheduler.yaml" --secure-port 0
}

# Pods get their default service account from a controller; before it exists they are refused.
service_accounts_ready() { api /api/v1/namespaces/default/serviceaccounts/default; }

# One fake node that holds any number of pods, each Running and Ready as soon as it is bound.
launch_kwok() {
  launch host kwok "$tools/kwok" --kubeconfig "$pki/kwok.kubeconfig" --config "$tools/kwok-stages.yaml" \
    --manage-nodes-with-annotation-selector kwok.x-k8s.io/node=fake --node-lease-duration-seconds 40 \
    --cidr "10.$subnet.64.1/18" --node-ip "10.$subnet.0.2" --server-address "127.0.0.1:$kwok_port"
}

kwok_ready() { curl --silent --fail --max-time 2 "http://127.0.0.1:$kwok_port/healthz"; }

make_fake_node() {
  kubectl apply -f - >"$logs/fake-node.log" 2>&1 <<EOF || die "creating the fake node" "hack/cluster up $name" "$logs/fake-node.log"
apiVersion: v1
kind: Node
metadata:
  name: $name
  annotations: {kwok.x-k8s.io/node: fake}
  labels: {kubernetes.io/hostname: $name, kubernetes.io/os: linux, kubernetes.io/arch: amd64, type: kwok}
status:
  allocatable: {cpu: "100000", memory: 1000Ti, pods: "1000000"}
  capacity: {cpu: "100000", memory: 1000Ti, pods: "1000000"}
EOF
}

node_ready() { [[ $(kubectl get node "$name" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == True ]]; }

# A node that was not ready a moment ago keeps a taint until a controller has looked again.
node_schedulable() { [[ $(kubectl get node "$name" -o 'jsonpath={.spec.taints}') == '' ]]; }

postgres_programs() {
  # shellcheck disable=SC2012
  REPLY=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
  [[ -n $REPLY ]] || die "there is no Postgres server under /usr/lib/postgresql" "hack/deps"
}

# Postgres refuses to be root, and its user may not look into root's home: the data folder is shown to it at
# that user's own home, in a mount namespace that ends with the process.
# shellcheck disable=SC2016
as_postgres=(unshare --mount -- bash -c
  'mount --bind "$0" /var/lib/postgresql && cd / && exec setpriv --reuid postgres --regid postgres --init-groups --inh-caps=-all -- "$@"')

launch_postgres() {
  local programs
  postgres_programs; programs=$REPLY
  if [[ ! -s $dir/postgres/data/PG_VERSION ]]; then
    install -d -o postgres -g postgres "$dir/postgres"
    "${as_postgres[@]}" "$dir/postgres" "$programs/initdb" -D /var/lib/postgresql/data -A trust -E UTF8 --locale C.UTF-8 --no-sync \
      >"$logs/initdb.log" 2>&1 || die "making the Postgres data folder" "read what initdb says above" "$logs/initdb.log"
  fi
  launch host postgres "${as_postgres[@]}" "$dir/postgres" "$programs/postgres" -D /var/lib/postgresql/data -p "$postgres_port" \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200 -c timezone=UTC \
    -c fsync=off -c synchronous_commit=off -c full_page_writes=off
}

postgres_ready() { "$(postgres_programs && echo "$REPLY")/pg_isready" -q -U postgres -h 127.0.0.1 -p "$postgres_port"; }

# Postgres marks its data folder with a bit of System V shared memory, which outlives a process that was killed.
release_postgres_memory() {
  local id
  [[ -s $dir/postgres/data/postmaster.pid ]] || return 0
  id=$(awk 'NR == 7 {print $2}' "$dir/postgres/data/postmaster.pid")
  [[ -z $id ]] || ipcrm --shmem-id "$id" 2>/dev/null || true
}

# A postmaster that was killed leaves a lock file, and trusts it as long as the process it names has not been
# reaped.
release_postgres_lock() {
  local lock=$dir/postgres/data/postmaster.pid
  if [[ -s $lock ]] && ! start_time "$(head -n 1 "$lock")"; then rm -f -- "$lock"; fi
}

# launch_registry WHERE COMPONENT: the node has a second process over the same store, so that 127.0.0.1:PORT means the
# same images on the host and on the node, and neither listens on an address that others can reach. The node's also listens on
# the node's address, for pods: only this machine has a route there.
launch_registry() {
  local listen=127.0.0.1
  [[ $1 == host ]] || listen=
  mkdir -p "$dir/registry"
  cat >"$dir/$2.yml" <<EOF
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: $dir/registry}
  delete: {enabled: true}
http: {addr: "$listen:$registry_port", secret: $name}
EOF
  launch "$1" "$2" docker-registry serve "$dir/$2.yml"
}

registry_ready() { curl --silent --fail --max-time 2 "http://127.0.0.1:$registry_port/v2/"; }
