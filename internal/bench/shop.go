//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/evdemo/evdemo/eventstore"
	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/service"
	"github.com/evdemo/evdemo/internal/shop/system"
	"github.com/evdemo/evdemo/saga"
)

const (
	// sagas are how many orders one measurement has, and sagaSteps how many steps each.
	sagas     = 3000
	sagaSteps = 5
)

// measureShop prints what there is to say of the order system.
func measureShop(ctx context.Context, c config) (missed bool, err error) {
	s, err := newStores(c)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	if !c.measures("saga") {
		return false, nil
	}
	var perSecond []float64
	for _, m := range []struct {
		name      string
		threshold float64
		measure   func(context.Context, *place) (pair, error)
	}{
		{"sagas of five steps on SQLite, to the end, against five inserts in one transaction each", 0.6, s.fiveStepped},
		{"orchestrated orders of the shop, in the same way", 0.4, s.orchestrated},
	} {
		below, err := compare(ctx, c, m.name, m.threshold, s.sqlite(func(ctx context.Context, at *place) (pair, error) {
			p, err := m.measure(ctx, at)
			perSecond = append(perSecond, p.ours)
			return p, err
		}))
		if err != nil {
			return false, fmt.Errorf("saga: %w", err)
		}
		missed = missed || below
	}
	rate := median(perSecond[:c.rounds])
	fmt.Printf("  %s sagas of five steps per second   want at least %d: %s\n\n", thousands(int(rate)), wantedSagas, verdict(rate >= wantedSagas))
	missed = missed || rate < wantedSagas
	return missed, nil
}

// orchestrated runs sagas from the order to the last step, with all five services in this process.
func (s *stores) orchestrated(ctx context.Context, at *place) (p pair, err error) {
	bare, err := at.bareInserts(ctx, storeSingles, 1)
	if err != nil {
		return p, err
	}
	p.bare = bare / sagaSteps
	if err := placeOrders(ctx, at.store, sagas); err != nil {
		return p, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	began := time.Now()
	ended := make(chan error, 1)
	go func() {
		_, err := system.Run(running, system.Config{
			Store: at.store, Flow: service.Orchestration, Concurrency: 64,
			Names: []string{service.Fraud, service.Payment, service.Inventory, service.Shipping, service.Loyalty, service.Coordinator},
		})
		ended <- err
		stop()
	}()
	completed := 0
	for _, err := range at.store.Follow(running, eventstore.Query{Types: []string{saga.TypeCompleted}}) {
		if err != nil {
			stop()
			return p, errors.Join(err, <-ended)
		}
		if completed++; completed == sagas {
			break
		}
	}
	p.ours = sagas / time.Since(began).Seconds()
	stop()
	return p, <-ended
}

func placeOrders(ctx context.Context, store *eventstore.Store, n int) error {
	random := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // sample data
	writes := make([]eventstore.StreamWrite, n)
	for i := range writes {
		var err error
		if writes[i], err = shop.Placed(shop.Sample(random)); err != nil {
			return err
		}
	}
	_, err := store.Append(ctx, writes...)
	return err
}
