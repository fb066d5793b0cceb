package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// maxHeaderBytes is what the headers of a request may have. net/http adds 4 KiB to it.
const maxHeaderBytes = 16 << 10

// Serve answers requests that come in on a listener, which it closes, until ctx ends. Then /readyz says that it is over, and
// who waits for a version is told so; after Config.DrainDelay no more connections are taken, and once the requests under way
// are answered Serve returns nil. Those that are not after Config.DrainTimeout are cut off, and that is an error. An API
// serves once.
func (a *API) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler: a, ReadHeaderTimeout: a.config.HeaderTimeout, ReadTimeout: a.config.ReadTimeout, IdleTimeout: a.config.IdleTimeout,
		WriteTimeout: a.config.ReadTimeout + max(a.config.AppendTimeout, maxWait) + 5*time.Second, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(a.config.Logger.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	defer a.drain()
	select {
	case err := <-served:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	a.drain()
	if err := a.delay(served); err != nil {
		return err
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.config.DrainTimeout)
	defer cancel()
	err := server.Shutdown(limited)
	if err != nil {
		_ = server.Close()
		err = fmt.Errorf("requests were cut off that took longer than %v to end: %w", a.config.DrainTimeout, err)
	}
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}

// delay waits while load balancers find out.
func (a *API) delay(served <-chan error) error {
	if a.config.DrainDelay == 0 {
		return nil
	}
	select {
	case err := <-served:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-time.After(a.config.DrainDelay):
		return nil
	}
}

// Patient has a request go on that has come in: net/http ends its context when the time for it to come in is over.
func Patient(w http.ResponseWriter) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // a writer without a deadline has no connection
}
