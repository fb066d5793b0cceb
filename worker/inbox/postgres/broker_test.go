package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/postgrestest"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/publisher"
	"github.com/evdemo/evdemo/topology"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/inbox/postgres"
)

// A worker whose database is killed and comes back, again and again, waits for it: each event, published twice, has
// its effect once, none is dead-lettered, and an attempt fails only where it was in a transaction at the time.
func TestWorkerWaitsForItsDatabase(t *testing.T) {
	t.Parallel()
	const events, kills, concurrency = 1000, 3, 8
	server := postgrestest.Server(t)
	at := server.URL("postgres")
	makeEffects(t, at)
	store := open(t, postgres.Config{URL: at, Timeout: 5 * time.Second})
	url, queue := brokertest.URL(t), brokertest.Name(t, "inbox")
	s := publishTwice(t, url, queue, events)

	handled := make(chan struct{}, 2*events)
	w, err := worker.New(worker.Config{URLs: session.SplitURLs(url), Queue: queue, Concurrency: concurrency, IdleTimeout: 3 * time.Second},
		worker.Wrap(func(ctx context.Context, d *worker.Delivery) error {
			err := chargeOnce(ctx, d)
			if err == nil {
				handled <- struct{}{}
			}
			return err
		}, worker.Dedup(store)))
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- w.Run(t.Context()) }()
	for range kills {
		for range events / (kills + 1) {
			await(t, handled)
		}
		require.NoError(t, server.Kill())
		<-time.After(300 * time.Millisecond)
		require.NoError(t, server.Restart(t.Context()))
	}
	require.NoError(t, await(t, ended))
	requireOneEffectEach(t, independent(t, at), events)
	stats := w.Stats()
	t.Logf("%+v", stats)
	assert.LessOrEqual(t, stats.Retried, int64(kills*concurrency))
	states, err := topology.Resources{Queues: []topology.QueueDef{{Name: queue}, {Name: topology.DeadLetterQueue(queue)}}}.Inspect(t.Context(), s)
	require.NoError(t, err)
	assert.Zero(t, states[0].Messages, "left")
	assert.Zero(t, states[1].Messages, "dead letters")
}

func publishTwice(t *testing.T, url, queue string, events int) *session.Session {
	t.Helper()
	s, err := session.DialWithin(t.Context(), session.Config{URLs: session.SplitURLs(url)}, patience)
	require.NoError(t, err)
	resources := topology.Default().QueueResources(queue)
	require.NoError(t, resources.Apply(t.Context(), s))
	t.Cleanup(func() {
		defer s.Close()
		assert.NoError(t, resources.Delete(context.WithoutCancel(t.Context()), s))
	})
	p, err := publisher.Open(t.Context(), publisher.Config{URLs: session.SplitURLs(url)})
	require.NoError(t, err)
	for range events {
		e, err := event.New("payment.requested", "test", nil)
		require.NoError(t, err)
		for range 2 {
			require.NoError(t, p.Send(t.Context(), publisher.Message{Event: e, To: publisher.ToQueue(queue)}, nil))
		}
	}
	require.NoError(t, p.Close(t.Context()))
	return s
}
