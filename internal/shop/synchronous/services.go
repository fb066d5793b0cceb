package synchronous

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop/api"
	"github.com/evdemo/evdemo/internal/shop/problem"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
	"github.com/evdemo/evdemo/internal/shop/view"
	"github.com/evdemo/evdemo/worker"
)

// Limits of the servers.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	idleTimeout   = time.Minute
	writeTimeout  = 10 * time.Second
	maxHeader     = 64 << 10 // bytes
	maxEvent      = 1 << 20  // bytes of data
	closeTimeout  = 5 * time.Second
	// loopback is where services are; at its port 0 nobody can be.
	loopback = "127.0.0.1:0"
)

// asker asks a service for what it makes of an event, and gives what that has decided: the same for the same event, however
// often it is asked.
type asker func(ctx context.Context, e event.Event) ([]event.Event, error)

// services are all services, ready to be called.
type services struct {
	ask       map[string]asker
	types     map[string][]string // what each reacts to
	servers   []*http.Server
	serving   sync.WaitGroup
	transport *http.Transport
	logger    *slog.Logger
}

// serve serves each service on a port of its own, but the order service, which is the one that calls them.
func (c *Config) serve(ctx context.Context) (_ *services, err error) {
	all, err := service.All(service.Config{Store: c.Store, Flow: service.Orchestration, Refuse: c.Faults.Refuses})
	if err != nil {
		return nil, err
	}
	s := &services{
		ask: map[string]asker{}, types: map[string][]string{}, logger: c.Logger,
		// Services are called directly, whatever proxy the environment names.
		transport: &http.Transport{MaxIdleConnsPerHost: c.Customers, IdleConnTimeout: idleTimeout / 2},
	}
	defer func() {
		if err != nil {
			s.close(ctx)
		}
	}()
	for _, one := range all {
		s.types[one.Name] = one.Types
		switch {
		case one.Ask == nil: // the coordinator's place is taken
		case one.Name == service.Order:
			s.ask[one.Name] = faulty(c.Faults, one)
		default:
			address := loopback
			if !slices.Contains(c.Down, one.Name) {
				if address, err = s.listen(ctx, &endpoint{one.Name, one.Types, faulty(c.Faults, one), c.Logger}); err != nil {
					return nil, err
				}
			}
			s.ask[one.Name] = s.caller(one.Name, "http://"+address+"/", c.Timeout)
		}
	}
	return s, nil
}

// listen serves an endpoint, and gives the address.
func (s *services) listen(ctx context.Context, e *endpoint) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", loopback)
	if err != nil {
		return "", fmt.Errorf("serve %s: %w", e.name, err)
	}
	server := &http.Server{
		Handler: e, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(e.logger.Handler(), slog.LevelDebug),
	}
	s.servers = append(s.servers, server)
	s.serving.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.logger.Error("shop: a service is not served any more", slog.String("service", e.name), slog.Any("error", err))
		}
	})
	return listener.Addr().String(), nil
}

// close ends the servers. Nobody calls them any more, but a call may be under way whose caller has given up.
func (s *services) close(ctx context.Context) {
	s.transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	for _, server := range s.servers {
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
	}
	s.serving.Wait()
}

// faulty is a service with its faults.
func faulty(faults system.Faults, one service.Service) asker {
	around := faults.Around(one.Name)
	return func(ctx context.Context, e event.Event) (decided []event.Event, err error) {
		err = around(func(ctx context.Context, d *worker.Delivery) (err error) {
			decided, err = one.Ask(ctx, d.Event)
			return err
		})(ctx, &worker.Delivery{Event: e})
		if err != nil {
			return nil, err
		}
		return decided, nil
	}
}

// endpoint is a service over HTTP: POST / with an event answers 200 with the events that it has decided, in the CloudEvents
// JSON batch format. 422 means that it will never decide about this event, 5xx that it could not, or that nobody knows.
type endpoint struct {
	name   string
	types  []string
	ask    asker
	logger *slog.Logger
}

// ServeHTTP implements http.Handler.
func (s *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != "/":
		problem.Write(w, r, http.StatusNotFound, "", "There is nothing here but /, which takes events.", nil)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		problem.Write(w, r, http.StatusMethodNotAllowed, "", "Here this takes POST.", nil)
		return
	}
	e, bad := readEvent(w, r)
	if bad != nil {
		bad.Write(w, r)
		return
	}
	decided, err := s.ask(r.Context(), e)
	if err != nil {
		s.failed(w, r, e, err)
		return
	}
	body, err := event.AppendBatch(nil, decided)
	if err != nil {
		s.failed(w, r, e, err)
		return
	}
	answer(w, http.StatusOK, event.ContentTypeBatch, body)
}

// readEvent reads the event of a request.
func readEvent(w http.ResponseWriter, r *http.Request) (event.Event, *problem.Problem) {
	bad := func(status int, title, detail string) (event.Event, *problem.Problem) {
		return event.Event{}, &problem.Problem{Status: status, Title: title, Detail: detail}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxEvent))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return bad(http.StatusRequestEntityTooLarge, "", fmt.Sprintf("A body may have %d bytes.", maxEvent))
	}
	if err != nil {
		return bad(http.StatusBadRequest, "Body cannot be read", "It ends before it should, or took too long.")
	}
	api.Patient(w)
	e, err := event.DecodeHTTP(r.Header, body)
	switch {
	case errors.Is(err, event.ErrNotCloudEvent):
		return bad(http.StatusUnsupportedMediaType, "", "The body must be a CloudEvent, and the headers say so: ce-specversion, or Content-Type.")
	case err != nil:
		return bad(http.StatusBadRequest, "Event not valid", err.Error())
	}
	return e, nil
}

// failed answers a request that could not be decided on.
func (s *endpoint) failed(w http.ResponseWriter, r *http.Request, e event.Event, err error) {
	if errors.Is(err, worker.ErrSkip) {
		problem.Write(w, r, http.StatusUnprocessableEntity, "Event not for this service",
			fmt.Sprintf("The %s service takes %s.", s.name, strings.Join(s.types, ", ")), nil)
		return
	}
	if _, reason := (worker.Policy{}).Decide(1, err); reason == worker.ReasonPermanent {
		problem.Write(w, r, http.StatusUnprocessableEntity, "Event not valid", err.Error(), nil)
		return
	}
	level := slog.LevelWarn
	if r.Context().Err() != nil { // the caller has gone
		level = slog.LevelDebug
	}
	s.logger.Log(r.Context(), level, "shop: a call has failed", slog.String("service", s.name), slog.String("type", e.Type),
		slog.String("order", e.Subject), slog.Any("error", err))
	if view.Away(err) || errors.Is(err, eventstore.ErrClosed) {
		problem.Write(w, r, http.StatusServiceUnavailable, "Database away",
			"The service cannot reach its database. Make the call again.", nil)
		return
	}
	problem.Write(w, r, http.StatusInternalServerError, "",
		"The service has failed. Make the call again: an event is decided on once.", nil)
}
