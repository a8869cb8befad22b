package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	authv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authclient "k8s.io/client-go/kubernetes/typed/authentication/v1"

	"github.com/sluiceproxy/sluice/internal/directory"
)

// What the API server says of a token besides the user name.
const (
	accountPrefix = "system:serviceaccount:"
	podName       = "authentication.kubernetes.io/pod-name"
	podUID        = "authentication.kubernetes.io/pod-uid"
)

// reviewer has the API server judge tokens made for an audience.
func reviewer(api authclient.TokenReviewInterface, audience string) func(context.Context, string) (directory.Identity, error) {
	return func(ctx context.Context, token string) (directory.Identity, error) {
		r, err := api.Create(ctx, &authv1.TokenReview{Spec: authv1.TokenReviewSpec{Token: token, Audiences: []string{audience}}}, metav1.CreateOptions{})
		if err != nil {
			return directory.Identity{}, fmt.Errorf("ask the API server: %w", err)
		}
		if !r.Status.Authenticated {
			return directory.Identity{}, directory.ErrRefused
		}
		// An API server that heeds no audience says none: the token may be for anything.
		if !slices.Contains(r.Status.Audiences, audience) {
			return directory.Identity{}, fmt.Errorf("%w: it is for another audience", directory.ErrRefused)
		}
		return identity(r.Status.User, token)
	}
}

func identity(u authv1.UserInfo, token string) (directory.Identity, error) {
	rest, ok := strings.CutPrefix(u.Username, accountPrefix)
	namespace, account, two := strings.Cut(rest, ":")
	if !ok || !two || namespace == "" || account == "" {
		return directory.Identity{}, fmt.Errorf("%w: it is of no service account", directory.ErrRefused)
	}
	id := directory.Identity{Namespace: namespace, ServiceAccount: account, Pod: first(u.Extra[podName]), PodUID: first(u.Extra[podUID])}
	if at, err := expiry(token); err == nil {
		id.Expires = at
	}
	return id, nil
}

func first(all authv1.ExtraValue) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}

// expiry is when a token ends, by its own words, which the API server has found to be true.
func expiry(token string) (time.Time, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}, errors.New("not three parts")
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}, err
	}
	var claims struct {
		Expires int64 `json:"exp"`
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		return time.Time{}, err
	}
	if claims.Expires <= 0 {
		return time.Time{}, errors.New("it has no end")
	}
	return time.Unix(claims.Expires, 0), nil
}
