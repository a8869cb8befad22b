package admin

import (
	"fmt"
	"net/http"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"time"
)

// profiles adds what `go tool pprof` and `go tool trace` fetch, at the addresses of
// net/http/pprof. That package itself is not linked: it brings in a reader of profiles and
// more, 150 KB that every process would have in memory, asked for or not.
func profiles(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/pprof/{$}", func(w http.ResponseWriter, _ *http.Request) {
		for _, p := range pprof.Profiles() {
			fmt.Fprintf(w, "/debug/pprof/%s?debug=1 %d\n", p.Name(), p.Count())
		}
		fmt.Fprint(w, "/debug/pprof/profile?seconds=30\n/debug/pprof/trace?seconds=1\n")
	})
	mux.HandleFunc("GET /debug/pprof/{name}", func(w http.ResponseWriter, r *http.Request) {
		p := pprof.Lookup(r.PathValue("name"))
		if p == nil {
			text(w, http.StatusNotFound, "there is no profile of that name: see /debug/pprof/")
			return
		}
		debug, _ := strconv.Atoi(r.FormValue("debug"))
		binary(w, debug == 0)
		p.WriteTo(w, debug)
	})
	mux.HandleFunc("GET /debug/pprof/profile", func(w http.ResponseWriter, r *http.Request) {
		span(w, r, 30*time.Second, func() error { return pprof.StartCPUProfile(w) }, pprof.StopCPUProfile)
	})
	mux.HandleFunc("GET /debug/pprof/trace", func(w http.ResponseWriter, r *http.Request) {
		span(w, r, time.Second, func() error { return trace.Start(w) }, trace.Stop)
	})
}

// span records from start to stop, for the seconds that the request asks for or as long
// as the client stays.
func span(w http.ResponseWriter, r *http.Request, d time.Duration, start func() error, stop func()) {
	if s, err := strconv.ParseFloat(r.FormValue("seconds"), 64); err == nil && s > 0 {
		d = time.Duration(s * float64(time.Second))
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d + writeTime))
	binary(w, true)
	if err := start(); err != nil {
		text(w, http.StatusConflict, "another one is being recorded: "+err.Error())
		return
	}
	defer stop()
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

// binary says what kind of answer it is.
func binary(w http.ResponseWriter, yes bool) {
	kind := "text/plain; charset=utf-8"
	if yes {
		kind = "application/octet-stream"
	}
	w.Header().Set("Content-Type", kind)
}
