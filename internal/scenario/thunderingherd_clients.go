package scenario

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"golang.org/x/sync/errgroup"

	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/internal/stage"
)

// herdPart has clients that connect again whenever they lose their connection, and prints the number of each one that is back.
func herdPart(ctx context.Context, p *stage.Player) error {
	broker, err := url.Parse(p.URL)
	if err != nil {
		return errors.New("broker URL is not well-formed") // the error has the password in it
	}
	security := p.TLS
	if security != nil { // the door has no certificate of its own
		security = security.Clone()
		security.ServerName = cmp.Or(security.ServerName, broker.Hostname())
	}
	broker.Host = p.Args["door"]
	config := session.Config{URLs: []string{broker.String()}, TLS: security, Name: "evdemo demo thundering-herd"}
	sessions := make([]*session.Session, herdClients)
	var opening, clients errgroup.Group
	opening.SetLimit(8)
	for i := range sessions {
		opening.Go(func() (err error) {
			sessions[i], err = session.DialWithin(ctx, config, time.Minute)
			return err
		})
	}
	if err := opening.Wait(); err != nil {
		return err
	}
	var printing sync.Mutex
	for i, conn := range sessions {
		var waits backoff.BackOff = session.NewBackOff()
		if p.Args["waits"] == string(stage.Broken) {
			waits = backoff.NewConstantBackOff(herdWaits)
		}
		clients.Go(func() error {
			return herdClient(ctx, config, conn, waits, func() error {
				printing.Lock()
				defer printing.Unlock()
				return p.Print(i)
			})
		})
	}
	p.Ready()
	return clients.Wait()
}

// herdClient is a client that does nothing but to be connected, until ctx ends.
func herdClient(ctx context.Context, config session.Config, conn *session.Session, waits backoff.BackOff, back func() error) error {
	for {
		select {
		case <-conn.Done():
		case <-ctx.Done():
		}
		conn.Close()
		for lost := true; lost; {
			timer := time.NewTimer(waits.NextBackOff())
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return nil
			}
			if again, err := session.Dial(ctx, config); err == nil {
				conn, lost = again, false
			}
		}
		waits.Reset()
		if err := back(); err != nil {
			return err
		}
	}
}

// herdTimes are the times at which something happened.
type herdTimes struct {
	mu    sync.Mutex
	times []time.Time
}

func (h *herdTimes) add() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.times = append(h.times, time.Now())
}

// since are the times from t on.
func (h *herdTimes) since(t time.Time) []time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.times, func(at time.Time) bool { return !at.Before(t) })
	if i < 0 {
		return nil
	}
	return slices.Clone(h.times[i:])
}
