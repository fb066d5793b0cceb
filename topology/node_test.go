package topology_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/localbroker"
	"github.com/evdemo/evdemo/topology"
)

// TestOnANodeOfItsOwn has what needs an administrator.
func TestOnANodeOfItsOwn(t *testing.T) {
	t.Parallel()
	node := brokertest.Node(t)
	testImport(t, node)
	testPermissions(t, node)
	testLimit(t, node)
}

// testImport: what RabbitMQ imports is what Apply would make.
func testImport(t *testing.T, node *localbroker.Node) {
	t.Helper()
	r := topology.Default().Resources()
	definitions, err := r.Definitions("/")
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "definitions.json")
	require.NoError(t, os.WriteFile(file, definitions, 0o600))
	ctl(t, node, "import_definitions", file)
	ctl(t, node, "import_definitions", file)

	conn := login(t, node, "")
	plan, err := r.Plan(t.Context(), conn)
	require.NoError(t, err)
	require.NoError(t, plan.Err())
	assert.Equal(t, len(r.Exchanges)+len(r.Queues), plan.Count(topology.ActionKeep), "it is what Apply would make")
	publish(t, conn, "orders", "", "imported")
	assert.Equal(t, "imported", get(t, channel(t, conn), "payments"), "the bindings are there")

	mark := func(name string) (log string) {
		_, err := channel(t, conn).QueueDeclarePassive(name, true, false, false, false, nil)
		require.Error(t, err)
		require.Eventually(t, func() bool {
			b, err := os.ReadFile(node.LogFile())
			log = string(b)
			return err == nil && strings.Contains(log, name)
		}, patience, tick)
		return log
	}
	mark("before-apply")
	require.NoError(t, r.Apply(t.Context(), conn))
	_, log, _ := strings.Cut(mark("after-apply"), "before-apply")
	assert.Equal(t, 1, strings.Count(log, "caused a channel exception"), "applying what is there leaves no trace: %s", log)
}

// testPermissions: what a user may not do comes out as an AccessError.
func testPermissions(t *testing.T, node *localbroker.Node) {
	t.Helper()
	r := topology.Default().WithPrefix("office-").Resources()
	ctl(t, node, "add_user", "clerk", "secret")
	ctl(t, node, "set_permissions", "clerk", "^$", ".*", ".*")
	clerk := login(t, node, "clerk")
	var access *topology.AccessError
	require.ErrorAs(t, r.Apply(t.Context(), clerk), &access)
	assert.Equal(t, "office-events", access.Name)
	assert.False(t, access.Exists)
	var refusal *amqp.Error
	require.ErrorAs(t, access, &refusal)
	assert.Equal(t, amqp.AccessRefused, refusal.Code)

	require.NoError(t, r.Apply(t.Context(), login(t, node, "")))
	require.ErrorAs(t, r.Apply(t.Context(), clerk), &access)
	assert.True(t, access.Exists, "one may go on without declaring it")
	require.ErrorAs(t, r.Delete(t.Context(), clerk), &access)
	_, err := r.Inspect(t.Context(), clerk)
	require.NoError(t, err, "looking takes no permission")
}

// testLimit: a 406 that is about something else is not taken for a conflict.
func testLimit(t *testing.T, node *localbroker.Node) {
	t.Helper()
	conn := login(t, node, "")
	queues := strings.Fields(ctl(t, node, "list_queues", "--silent", "name"))
	ctl(t, node, "set_vhost_limits", fmt.Sprintf(`{"max-queues": %d}`, len(queues)+2))
	r := topology.Default().WithPrefix("small-").QueueResources("small-payments")
	err := r.Apply(t.Context(), conn)
	var refusal *amqp.Error
	require.ErrorAs(t, err, &refusal)
	require.ErrorContains(t, err, "create queue small-payments.retry.1s: ")
	require.ErrorContains(t, err, "queue limit")
	plan, err := r.Plan(t.Context(), conn)
	require.NoError(t, err)
	assert.Equal(t, len(r.Exchanges)+2, plan.Count(topology.ActionKeep), "what was created stays")

	ctl(t, node, "clear_vhost_limits")
	require.NoError(t, r.Apply(t.Context(), conn), "and applying again goes on")
}

// login connects as a user with the password secret, or as the node's own user.
func login(t *testing.T, node *localbroker.Node, user string) *amqp.Connection {
	t.Helper()
	address, err := url.Parse(node.URL())
	require.NoError(t, err)
	if user != "" {
		address.User = url.UserPassword(user, "secret")
	}
	conn, err := amqp.Dial(address.String())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func ctl(t *testing.T, node *localbroker.Node, args ...string) string {
	t.Helper()
	out, err := node.Ctl(t.Context(), args...)
	require.NoError(t, err)
	return out
}

// TestBrokerThatDoesNotAnswer: the network stops in the middle of everything.
func TestBrokerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	link := brokertest.Proxy(t, brokertest.URL(t))
	conn, err := amqp.Dial(link.URL())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	r, _ := unique(t, dial(t), topology.Default())
	link.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, r.Resources().Apply(ctx, conn), context.DeadlineExceeded)
	link.Resume()
	require.NoError(t, r.Resources().Apply(t.Context(), conn), "the connection is as good as before")

	link.Cut()
	require.Error(t, r.Resources().Apply(t.Context(), conn))
}
