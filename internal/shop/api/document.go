package api

import (
	_ "embed"
	"net/http"
	"strconv"

	"github.com/evdemo/evdemo/internal/shop/problem"
)

// document is the OpenAPI document.
//
//go:embed openapi.yaml
var document []byte

// Document gives the OpenAPI document, as YAML.
func Document() []byte { return append([]byte(nil), document...) }

// document answers GET /api/openapi.yaml.
func (a *API) document(w http.ResponseWriter, _ *http.Request) {
	header := w.Header()
	header.Set("Content-Type", "application/yaml")
	header.Set("Content-Length", strconv.Itoa(len(document)))
	header.Set("Cache-Control", "max-age=60")
	_, _ = w.Write(document)
}

// health answers GET /healthz: as long as the program answers at all.
func (a *API) health(w http.ResponseWriter, _ *http.Request) { plain(w, "ok") }

// ready answers GET /readyz: whether orders can be placed and looked at.
func (a *API) ready(w http.ResponseWriter, r *http.Request) {
	if a.draining.Err() != nil {
		retryIn(w, retryAfter)
		problem.Write(w, r, http.StatusServiceUnavailable, "Shutting down", "This server ends.", nil)
		return
	}
	if err := a.config.Orders.Ping(r.Context()); err != nil {
		a.readFailed(w, r, err)
		return
	}
	plain(w, "ready")
}

func plain(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(text + "\n"))
}
