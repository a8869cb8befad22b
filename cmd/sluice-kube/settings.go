package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sluiceproxy/sluice/internal/settings"
)

// configuration is what all settings say, checked.
type configuration struct {
	Socket     string
	Namespaces []string // none: all
	Audience   string
	Kubeconfig string // "": that of the pod
	Admin      string // "": none
	LogLevel   slog.Level
	API        *rest.Config
	Warnings   settings.Problems
}

// settings is the table of c's settings.
func (c *configuration) settings() []settings.Setting {
	const fixed = settings.Restart
	return settings.Table(settings.Group{Settings: []settings.Setting{
		settings.ConfigFile(),
		{Flag: "socket", Key: "socket", Default: "/run/sluice/directory.sock", Value: "FILE", Change: fixed,
			Help: "serve on this Unix socket",
			Into: settings.One(&c.Socket, settings.Socket)},
		{Flag: "namespaces", Key: "namespaces", Value: "NAME", List: true, Change: fixed,
			Help: "watch the pods of these namespaces only; may be given several times (default all)",
			Into: settings.Many(&c.Namespaces, parseNamespace)},
		{Flag: "audience", Key: "audience", Default: "sluice", Value: "NAME", Change: fixed,
			Help: "take tokens that were made for this audience only",
			Into: settings.One(&c.Audience, parseAudience)},
		{Flag: "kubeconfig", Key: "kubeconfig", Value: "FILE", Change: fixed,
			Help: "reach the API server as this file says (default as the pod's service account)",
			Into: settings.One(&c.Kubeconfig, settings.Path)},
		{Flag: "admin", Key: "admin", Default: "127.0.0.1:9091", Value: "ADDR", Change: fixed,
			Help: "serve health and metrics at this address, or off",
			Into: settings.One(&c.Admin, settings.ListenOrOff)},
		{Flag: "log-level", Key: "logLevel", Default: "info", Value: "LEVEL", Change: fixed,
			Help: "debug, info, warn or error",
			Into: settings.One(&c.LogLevel, settings.Level)},
	}})
}

// load makes the configuration; with check it is only judged, where there may be no API server to
// reach. The error is [settings.Problems], with everything that is
// wrong; there is no configuration then.
func load(in settings.Input, check bool) (*configuration, error) {
	c := &configuration{}
	all := c.settings()
	l := settings.NewLoader(in, all)
	l.Load()
	if !l.Unread {
		var err error
		if c.API, err = apiConfig(c.Kubeconfig); err != nil && !(check && errors.Is(err, errNoPod)) {
			l.Report(l.At(settings.Pick(all, "kubeconfig")).Problem(err.Error()))
		}
	}
	if err := l.Err(); err != nil {
		return nil, err
	}
	c.Warnings = l.Warnings
	return c, nil
}

var errNoPod = errors.New("this is no pod, so name a kubeconfig to reach the API server by")

// apiConfig is how to reach the API server.
func apiConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		return clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	c, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errNoPod
	}
	if err != nil {
		return nil, fmt.Errorf("the pod's service account cannot be used (is automountServiceAccountToken off?): %w", err)
	}
	return c, nil
}

func parseNamespace(s string) (string, error) {
	if len(validation.IsDNS1123Label(s)) > 0 {
		return "", fmt.Errorf("%q is no name of a namespace: lower-case letters, digits and hyphens, at most 63", s)
	}
	return s, nil
}

func parseAudience(s string) (string, error) {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%q is no audience: write one word", s)
	}
	return s, nil
}
