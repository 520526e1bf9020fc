#!/bin/sh
# PID 1 of a node: gives it a name and disks of its own, then keeps its daemons running, as an init system does.
# Called in new mount, process, name and IPC namespaces. Environment: NODE, STORE (the node's disk), LOGS, PROGRAMS
# (Kubernetes), VOLUMES, SHARED_VOLUMES, PINNED_VOLUMES, FLAGS_KUBELET, FLAGS_PROXY, PAUSE_IMAGE, PAUSE_ARCHIVE.
set -eu
hostname "$NODE"
mount --make-rshared /
# Copies of the handles of other hosts' networks would keep those alive after they were removed.
umount --recursive --lazy /run/netns

own() { mkdir -p "$1" "$2"; mount --rbind "$1" "$2"; }
rm -rf "$STORE/run"
for folder in /var/lib/kubelet /var/lib/containerd /run/containerd /etc/cni/net.d /var/lib/cni /var/log/pods \
  /var/log/containers; do
  own "$STORE$folder" "$folder"
done
own "$VOLUMES/shared" "$SHARED_VOLUMES"
own "$VOLUMES/$NODE" "$PINNED_VOLUMES"
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
rm -rf /var/lib/cni/networks # addresses of pods that died with the node

ready() { until ctr version >/dev/null 2>&1; do sleep 0.1; done; }

if [ -e "$STORE/purge" ]; then
  # The containers of an earlier cluster: forgotten before the container runtime can see them. Its images stay.
  rm -rf /var/lib/containerd/io.containerd.grpc.v1.cri
  containerd --config "$STORE/containerd-purge.toml" >>"$LOGS/$NODE-containerd.log" 2>&1 &
  purging=$!
  ready
  ctr -n k8s.io containers list --quiet | xargs --no-run-if-empty ctr -n k8s.io containers delete >/dev/null
  kill "$purging"
  wait "$purging" || true
  rm "$STORE/purge"
fi

keep() {
  log="$LOGS/$NODE-$1.log"
  while :; do
    "$@" >>"$log" 2>&1 || echo "$1 ended with code $?: started again" >>"$log"
    sleep 1
  done
}

ulimit -n "$(ulimit -Hn)"
PATH="$PROGRAMS:$PATH"
keep containerd --config "$STORE/containerd.toml" &
ready
if ! ctr -n k8s.io images list --quiet | grep -qxF "$PAUSE_IMAGE"; then
  ctr -n k8s.io images import "$PAUSE_ARCHIVE" >/dev/null
fi
# shellcheck disable=SC2086 # the flags are words
keep kube-proxy $FLAGS_PROXY &
# shellcheck disable=SC2086
keep kubelet $FLAGS_KUBELET &
wait
