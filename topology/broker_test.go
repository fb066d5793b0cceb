package topology_test

import (
	"context"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/topology"
)

// patience bounds what a test waits for; tick is how often it looks.
const (
	patience = 30 * time.Second
	tick     = 10 * time.Millisecond
)

// dial connects to the broker under test for as long as the test runs.
func dial(t *testing.T) *amqp.Connection {
	t.Helper()
	conn, err := amqp.Dial(brokertest.URL(t))
	require.NoError(t, err)
	t.Cleanup(func() {
		if !conn.IsClosed() {
			require.NoError(t, conn.Close())
		}
	})
	return conn
}

// channel opens a channel, which lives as long as the connection.
func channel(t *testing.T, conn *amqp.Connection) *amqp.Channel {
	t.Helper()
	ch, err := conn.Channel()
	require.NoError(t, err)
	return ch
}

// unique is a topology under a prefix of its own, deleted when the test is over.
func unique(t *testing.T, conn *amqp.Connection, spec topology.Spec) (renamed topology.Spec, prefix string) {
	t.Helper()
	prefix = brokertest.Name(t, "topology") + "-"
	renamed = spec.WithPrefix(prefix)
	require.NoError(t, renamed.Validate())
	remove(t, conn, renamed.Resources())
	return renamed, prefix
}

// remove deletes the resources when the test is over, on a connection that is still open then.
func remove(t *testing.T, conn *amqp.Connection, r topology.Resources) {
	t.Helper()
	t.Cleanup(func() {
		require.NoError(t, r.Delete(context.WithoutCancel(t.Context()), conn, topology.EvenShared()))
	})
}
