// Package deploy is no code: manifests, the image's Containerfile and the demo. Its
// tests render the manifests, hold them against the schemas of Kubernetes and
// against each other, and run the image's programs as a pod would.
package deploy
