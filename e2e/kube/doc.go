// Package kube tests sluice-kube against a real kube-apiserver and etcd. There is no
// kubelet: the tests write what it would write of pods. scripts/build-kube-apiserver.sh
// builds the API server; without it, and without etcd, the tests say what they skip.
package kube
