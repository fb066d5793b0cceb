package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// headerLimit, requestLimit and answerLimit bound what a client may take.
	headerLimit  = 5 * time.Second
	requestLimit = 10 * time.Second
	answerLimit  = 30 * time.Second
	// maxHeaderBytes is plenty for a scrape.
	maxHeaderBytes = 16 << 10
	// maxScrapes is how many may be answered at a time.
	maxScrapes = 8
	// closeLimit bounds the wait for answers that are under way.
	closeLimit = 2 * time.Second
)

// NewRegistry makes a registry with the metrics of the Go runtime and of the process.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Server answers /metrics, in the formats of Prometheus; /healthz, with 200 as long as the process
// answers at all; and /readyz, with 200 or 503.
type Server struct {
	http     *http.Server
	listener net.Listener
	served   chan struct{} // closed when it serves no more
}

// Serve listens on addr, a host and a port, and serves from then on, until Close. It returns an error
// where it cannot listen, as when the port is taken. Port 0 means any that is free; see Addr.
//
// Nothing asks for a password, so addr should be one of this machine only: where it can be reached
// from others, that is logged as a warning. ctx bounds the looking up of addr and no more. ready may
// be called from several goroutines at once; a nil one is never ready.
func Serve(ctx context.Context, addr string, metrics prometheus.Gatherer, ready func() bool, log *slog.Logger) (*Server, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("serve metrics on %s: %w", addr, err)
	}
	if reachable(listener.Addr()) {
		log.Warn("metrics can be read from other machines, without a password", slog.Any("address", listener.Addr()))
	}
	httpLog := slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	s := &Server{listener: listener, served: make(chan struct{}), http: &http.Server{
		Handler:           routes(metrics, ready, httpLog),
		ReadHeaderTimeout: headerLimit,
		ReadTimeout:       requestLimit,
		WriteTimeout:      answerLimit,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          httpLog,
	}}
	go func() {
		defer close(s.served)
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are served no more", slog.Any("error", err))
		}
	}()
	return s, nil
}

// reachable tells whether other machines may get at an address.
func reachable(addr net.Addr) bool {
	at, ok := addr.(*net.TCPAddr)
	return !ok || !at.IP.IsLoopback()
}

func routes(metrics prometheus.Gatherer, ready func() bool, log promhttp.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{
		ErrorLog:            log,
		ErrorHandling:       promhttp.ContinueOnError, // one fault must not hide all the rest
		MaxRequestsInFlight: maxScrapes,
		EnableOpenMetrics:   true,
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if ready != nil && ready() {
			answer(w, http.StatusOK, "ready")
		} else {
			answer(w, http.StatusServiceUnavailable, "not ready")
		}
	})
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

// Addr is the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close listens no more, waits up to 2 s for answers that are under way, and ends the connections of
// the others, for which it returns an error. Calling it again is safe.
func (s *Server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	err := s.http.Shutdown(ctx)
	if err != nil {
		_ = s.http.Close()
	}
	<-s.served
	if err != nil {
		return fmt.Errorf("close the metrics server: %w", err)
	}
	return nil
}
