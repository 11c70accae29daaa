#!/bin/sh
# Makes a kind node of what was copied in. Runs once, inside `docker build`.
#
#   node.sh VERSION IMAGE…     the version of Kubernetes and the images that its control plane will ask for
set -eu
version=$1
shift

# --- the node ---------------------------------------------------------------------------------------------

for program in kubeadm kubectl kubelet; do
    ln -s kube-node "/usr/bin/$program"
done
# kind's unit expects what its own image builds.
ln -s /usr/bin/containerd /usr/bin/ctr /usr/local/bin/
[ -e /sbin/init ] || ln -s /lib/systemd/systemd /sbin/init

# As kind's own recipe has it: none of the services that belong to a machine, all of kind's.
rm -f /lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service \
    /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* \
    /lib/systemd/system/local-fs.target.wants/* /lib/systemd/system/basic.target.wants/* \
    /lib/systemd/system/sockets.target.wants/*udev* /lib/systemd/system/sockets.target.wants/*initctl*
echo ReadKMsg=no >>/etc/systemd/journald.conf
systemctl enable kubelet.service containerd.service undo-mount-hacks.service
systemctl mask systemd-binfmt.service
mkdir -p /etc/kubernetes/manifests /kind/manifests
printf %s "$version" >/kind/version

ctr oci spec |
    jq '.hooks.createContainer += [{"path": "/kind/bin/mount-product-files.sh"}] | del(.process.rlimits)' \
        >/etc/containerd/cri-base.json

# The network of a cluster of one node needs no daemon: a pair of interfaces and a route for each pod.
mkdir -p /etc/cni/net.d
cat >/etc/cni/net.d/10-ptp.conflist <<'CNI'
{
  "cniVersion": "0.4.0",
  "name": "ptp",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": true,
      "ipam": {
        "type": "host-local",
        "dataDir": "/run/cni-ipam-state",
        "ranges": [[{ "subnet": "10.244.0.0/24" }]],
        "routes": [{ "dst": "0.0.0.0/0" }]
      }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
CNI
# kind creates what it finds here.
cat >/kind/manifests/default-cni.yaml <<'MANIFEST'
apiVersion: v1
kind: ConfigMap
metadata:
  name: boxgate-network
  namespace: kube-system
data:
  network: "static, for one node: /etc/cni/net.d/10-ptp.conflist"
MANIFEST

# --- the images of the control plane ------------------------------------------------------------------------

# All are one file system under several names: the program of all programs, a shell, and iptables for kube-proxy.
root=/tmp/root
mkdir -p $root/usr/local/bin $root/usr/sbin $root/bin $root/etc $root/tmp $root/run $root/var $root/lib64
chmod 1777 $root/tmp
cp /usr/bin/kube-node $root/usr/local/bin/
for program in kube-apiserver kube-controller-manager kube-scheduler kube-proxy etcd coredns pause kubectl; do
    ln -s kube-node "$root/usr/local/bin/$program"
done
cp /bin/busybox $root/bin/
for applet in $(/bin/busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
cp -a /etc/ssl $root/etc/
mkdir -p $root/usr/share && cp -a /usr/share/ca-certificates $root/usr/share/
echo 'root:x:0:0:root:/root:/bin/sh' >$root/etc/passwd

# copy FILE…: with the libraries that they are linked to.
copy() {
    for file; do
        mkdir -p "$root$(dirname "$file")"
        cp -L "$file" "$root$file"
        ldd "$file" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
            [ -e "$root$library" ] || { mkdir -p "$root$(dirname "$library")" && cp -L "$library" "$root$library"; }
        done
    done
}
# Without the library of an extension, and the libraries that it needs itself, a service's rules fail to load.
copy /usr/sbin/xtables-nft-multi /usr/sbin/xtables-legacy-multi /usr/lib/*/xtables/*.so
for mode in nft legacy; do
    for family in iptables ip6tables; do
        for verb in '' -save -restore; do
            ln -sf "xtables-$mode-multi" "$root/usr/sbin/$family-$mode$verb"
            [ $mode != nft ] || ln -sf "xtables-nft-multi" "$root/usr/sbin/$family$verb"
        done
    done
done

work=/tmp/images
mkdir -p $work
tar --create --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --file $work/layer.tar --directory $root .
layer=$(sha256sum $work/layer.tar | cut -d' ' -f1)
architecture=$(dpkg --print-architecture)
for image; do
    # The manifests of these two do not say which program they mean.
    case $image in
    *coredns*) entrypoint='["/usr/local/bin/coredns"]' ;;
    *pause*) entrypoint='["/usr/local/bin/pause"]' ;;
    *) entrypoint=null ;;
    esac
    name=$(echo "$image" | tr '/:' '__').json
    jq -n --arg layer "sha256:$layer" --arg architecture "$architecture" --argjson entrypoint "$entrypoint" '{
        os: "linux", architecture: $architecture, rootfs: {type: "layers", diff_ids: [$layer]},
        config: {Entrypoint: $entrypoint, Env: ["PATH=/usr/local/bin:/usr/sbin:/bin"]}}' >"$work/$name"
    jq -n --arg config "$name" --arg image "$image" '{Config: $config, RepoTags: [$image], Layers: ["layer.tar"]}'
done | jq -s . >$work/manifest.json

containerd >/tmp/containerd.log 2>&1 &
for _ in $(seq 100); do
    [ ! -S /run/containerd/containerd.sock ] || break
    sleep 0.1
done
tar --create --directory $work . | ctr --namespace k8s.io images import --no-unpack - || {
    cat /tmp/containerd.log >&2
    exit 1
}
kill %1 2>/dev/null || kill $!
wait || true
rm -rf $root $work /tmp/containerd.log /run/containerd
