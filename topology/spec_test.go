package topology_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/topology"
)

func TestNames(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "orders.email", topology.GroupQueue("orders", "email"))
	assert.Equal(t, "payments.dlq", topology.DeadLetterQueue("payments"))
	assert.Equal(t, "orders.log", topology.LogStream("orders"))
	assert.Equal(t, "payments.retry.1m", topology.RetryTier("payments", 60*time.Second))
	assert.Equal(t, "payments.retry.90s", topology.RetryTier("payments", 90*time.Second))
	assert.Equal(t, "payments.retry.1500ms", topology.RetryTier("payments", 1500*time.Millisecond))
}

func TestQueueHasDefaults(t *testing.T) {
	t.Parallel()
	spec := topology.Spec{Queues: map[string]topology.Queue{
		"never": {Retry: []time.Duration{}, MaxAttempts: 1},
	}}
	assert.Equal(t, topology.Queue{Retry: topology.DefaultRetry(), MaxAttempts: 5}, spec.Queue("unknown"))
	assert.Equal(t, topology.Queue{Retry: []time.Duration{}, MaxAttempts: 1}, spec.Queue("never"))
	assert.Equal(t, topology.Default().Queue("payments"), topology.Spec{}.Queue("payments"),
		"the built-in queue says what is the default anyway")
}

func TestTopicResources(t *testing.T) {
	t.Parallel()
	r := topology.Default().TopicResources("orders")
	assert.Equal(t, []string{"events", "orders"}, exchangeNames(r))
	assert.Equal(t, []string{
		"payments.dlq", "payments", "payments.retry.1s", "payments.retry.5s", "payments.retry.30s", "orders.log",
	}, queueNames(r), "its groups are not among them")
	assert.Equal(t, []string{"orders -> events", "orders -> payments", "orders -> orders.log"}, bindingNames(r))

	r = topology.Default().TopicResources("unknown")
	assert.Equal(t, []string{"events", "unknown"}, exchangeNames(r))
	assert.Empty(t, r.Queues)
	assert.Equal(t, []string{"unknown -> events"}, bindingNames(r))

	r = topology.Default().TopicResources("events")
	assert.Equal(t, []string{"events"}, exchangeNames(r))
	assert.Empty(t, r.Bindings, "the events exchange is not bound to itself")
}

func TestQueueResources(t *testing.T) {
	t.Parallel()
	r := topology.Default().QueueResources("payments")
	assert.Equal(t, []string{"events", "orders"}, exchangeNames(r))
	assert.Equal(t, []string{
		"payments.dlq", "payments", "payments.retry.1s", "payments.retry.5s", "payments.retry.30s",
	}, queueNames(r))
	assert.Equal(t, []string{"orders -> events", "orders -> payments"}, bindingNames(r))

	r = topology.Default().QueueResources("unknown")
	assert.Empty(t, r.Exchanges)
	assert.Empty(t, r.Bindings)
	assert.Equal(t, []string{
		"unknown.dlq", "unknown", "unknown.retry.1s", "unknown.retry.5s", "unknown.retry.30s",
	}, queueNames(r))

	assert.Equal(t, topology.Default().GroupResources("orders", "email"),
		topology.Default().QueueResources("orders.email"), "a group is reached by the name of its queue too")
}

func TestQueueFedByTwoTopics(t *testing.T) {
	t.Parallel()
	spec := topology.Spec{Topics: map[string]topology.Topic{
		"orders":  {Queues: []string{"audit"}},
		"refunds": {Queues: []string{"audit"}},
	}}
	require.NoError(t, spec.Validate())
	assert.Equal(t, []string{"orders -> events", "refunds -> events", "orders -> audit", "refunds -> audit"},
		bindingNames(spec.QueueResources("audit")))
}

func TestGroupResources(t *testing.T) {
	t.Parallel()
	r := topology.Default().GroupResources("orders", "email")
	assert.Equal(t, []string{"events", "orders"}, exchangeNames(r))
	assert.Equal(t, []string{"orders -> events", "orders -> orders.email"}, bindingNames(r))

	r = topology.Spec{}.GroupResources("events", "audit")
	assert.Equal(t, []string{"events -> events.audit"}, bindingNames(r), "a group may have the events of all topics")

	settings := topology.Default()
	settings.Queues["orders.email"] = topology.Queue{Retry: []time.Duration{time.Minute}, SingleActive: true}
	require.NoError(t, settings.Validate())
	r = settings.GroupResources("orders", "email")
	assert.Equal(t, []string{"orders.email.dlq", "orders.email", "orders.email.retry.1m"}, queueNames(r))
	assert.Equal(t, true, r.Queues[1].Arguments["x-single-active-consumer"])
}

func TestArguments(t *testing.T) {
	t.Parallel()
	arguments := map[string]map[string]any{}
	for _, queue := range topology.Default().Resources().Queues {
		arguments[queue.Name] = queue.Arguments
	}
	assert.Equal(t, map[string]any{
		"x-queue-type":              "quorum",
		"x-dead-letter-exchange":    "",
		"x-dead-letter-routing-key": "payments.dlq",
		"x-dead-letter-strategy":    "at-least-once",
		"x-overflow":                "reject-publish",
		"x-delivery-limit":          int64(20),
	}, arguments["payments"])
	assert.Equal(t, map[string]any{
		"x-queue-type":              "quorum",
		"x-dead-letter-exchange":    "",
		"x-dead-letter-routing-key": "payments",
		"x-dead-letter-strategy":    "at-least-once",
		"x-overflow":                "reject-publish",
		"x-message-ttl":             int64(5000),
	}, arguments["payments.retry.5s"])
	assert.Equal(t, map[string]any{
		"x-queue-type":     "quorum",
		"x-delivery-limit": int64(2147483647),
	}, arguments["payments.dlq"])
	assert.Equal(t, map[string]any{
		"x-queue-type":       "stream",
		"x-max-age":          "7D",
		"x-max-length-bytes": int64(1_000_000_000),
	}, arguments["orders.log"])
}

func TestSmallLogHasSmallSegments(t *testing.T) {
	t.Parallel()
	spec := topology.Spec{Topics: map[string]topology.Topic{
		"orders": {Log: &topology.Log{MaxAge: 36 * time.Hour, MaxSize: 50_000_000}},
	}}
	r := spec.Resources()
	require.Len(t, r.Queues, 1)
	assert.Equal(t, map[string]any{
		"x-queue-type":                    "stream",
		"x-max-age":                       "36h",
		"x-max-length-bytes":              int64(50_000_000),
		"x-stream-max-segment-size-bytes": int64(25_000_000),
	}, r.Queues[0].Arguments)
}

func TestPrefixRenamesEverything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		spec := drawSpec(t)
		prefixed := spec.WithPrefix("demo-1.")
		require.NoError(t, prefixed.Validate())
		require.Equal(t, "demo-1.events", prefixed.Events())

		want := spec.Resources()
		sortByName(want)
		got := prefixed.Resources()
		strip := func(name string) string {
			bare, ok := strings.CutPrefix(name, "demo-1.")
			require.True(t, ok, "%s has no prefix", name)
			return bare
		}
		for i := range got.Exchanges {
			got.Exchanges[i].Name = strip(got.Exchanges[i].Name)
		}
		for i, queue := range got.Queues {
			got.Queues[i].Name = strip(queue.Name)
			if queue.Of != "" {
				got.Queues[i].Of = strip(queue.Of)
			}
			if key, ok := queue.Arguments["x-dead-letter-routing-key"].(string); ok {
				queue.Arguments["x-dead-letter-routing-key"] = strip(key)
			}
		}
		for i := range got.Bindings {
			got.Bindings[i].Source = strip(got.Bindings[i].Source)
			got.Bindings[i].Destination = strip(got.Bindings[i].Destination)
		}
		sortByName(got)
		require.Equal(t, want, got)
	})
}

func TestPrefixLeavesTheOriginal(t *testing.T) {
	t.Parallel()
	spec := topology.Default()
	spec.WithPrefix("x-").WithPrefix("y-")
	assert.Equal(t, topology.Default(), spec)
	assert.Equal(t, []string{"y-x-events", "y-x-orders"},
		exchangeNames(spec.WithPrefix("x-").WithPrefix("y-").TopicResources("y-x-orders")))
}

// TestResourcesHoldTogether: every part of a topology is in the whole, nothing is there twice,
// nothing is dead-lettered to a queue that is declared later, and no binding hangs in the air.
func TestResourcesHoldTogether(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		spec := drawSpec(t)
		all := spec.Resources()
		require.NoError(t, all.Validate())
		seen := map[string]bool{}
		for _, queue := range all.Queues {
			require.False(t, seen[queue.Name], "%s is there twice", queue.Name)
			seen[queue.Name] = true
			if key, ok := queue.Arguments["x-dead-letter-routing-key"].(string); ok {
				require.True(t, seen[key], "%s comes before %s", queue.Name, key)
			}
		}
		for _, binding := range all.Bindings {
			require.Contains(t, exchangeNames(all), binding.Source)
			require.Contains(t, slices.Concat(exchangeNames(all), queueNames(all)), binding.Destination)
		}
		for name, topic := range spec.Topics {
			requirePartOf(t, all, spec.TopicResources(name))
			for _, group := range topic.Groups {
				requirePartOf(t, all, spec.GroupResources(name, group))
			}
		}
		for name := range spec.Queues {
			requirePartOf(t, all, spec.QueueResources(name))
		}
	})
}

func requirePartOf(t require.TestingT, all, part topology.Resources) {
	require.Subset(t, all.Exchanges, part.Exchanges)
	require.Subset(t, all.Bindings, part.Bindings)
	for _, queue := range part.Queues {
		require.Contains(t, all.Queues, queue)
	}
}

func sortByName(r topology.Resources) {
	slices.SortFunc(r.Exchanges, func(a, b topology.Exchange) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(r.Queues, func(a, b topology.QueueDef) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(r.Bindings, func(a, b topology.Binding) int { return strings.Compare(a.String(), b.String()) })
}

func exchangeNames(r topology.Resources) []string {
	var names []string
	for _, exchange := range r.Exchanges {
		names = append(names, exchange.Name)
	}
	return names
}

func queueNames(r topology.Resources) []string {
	var names []string
	for _, queue := range r.Queues {
		names = append(names, queue.Name)
	}
	return names
}

func bindingNames(r topology.Resources) []string {
	var names []string
	for _, binding := range r.Bindings {
		names = append(names, binding.String())
	}
	return names
}
