package topology_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/topology"
)

func TestDeleteLeavesNothing(t *testing.T) {
	t.Parallel()
	conn := dial(t)
	spec, _ := unique(t, conn, topology.Default())
	r := spec.Resources()
	require.NoError(t, r.Apply(t.Context(), conn))

	var deleted []string
	note := topology.OnDeleted(func(s topology.State) { deleted = append(deleted, s.Name) })
	require.NoError(t, r.Delete(t.Context(), conn, note, topology.IfEmpty(), topology.IfUnused()))
	assert.ElementsMatch(t, append(exchangeNames(r), queueNames(r)...), deleted)
	states, err := r.Inspect(t.Context(), conn)
	require.NoError(t, err)
	for _, state := range states {
		assert.False(t, state.Exists, "%s %s", state.Kind, state.Name)
	}

	deleted = nil
	require.NoError(t, r.Delete(t.Context(), conn, note), "what is not there is no error")
	assert.Empty(t, deleted)
}

func TestDeleteRefusesWhatIsInUse(t *testing.T) {
	t.Parallel()
	conn := dial(t)
	spec, prefix := unique(t, conn, topology.Default())
	r := spec.Resources()
	require.NoError(t, r.Apply(t.Context(), conn))
	publish(t, conn, prefix+"orders", "", "1")
	_, err := channel(t, conn).Consume(prefix+"payments.dlq", "", false, false, false, false, nil)
	require.NoError(t, err)

	var inUse *topology.InUseError
	// A quorum queue tells how many messages it has with a delay.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		err := r.Delete(t.Context(), conn, topology.IfEmpty(), topology.OnDeleted(func(s topology.State) {
			t.Errorf("deleted %s", s.Name)
		}))
		if assert.ErrorAs(c, err, &inUse) {
			assert.Len(c, inUse.Queues, 3)
		}
	}, patience, tick)
	require.ErrorContains(t, inUse, "queue "+prefix+"payments (1 messages, 0 consumers)")

	require.ErrorAs(t, r.Delete(t.Context(), conn, topology.IfUnused()), &inUse)
	require.Len(t, inUse.Queues, 1)
	assert.Equal(t, topology.State{
		Kind: topology.KindQueue, Name: prefix + "payments.dlq", Exists: true, Consumers: 1,
	}, inUse.Queues[0])

	plan, err := r.Plan(t.Context(), conn)
	require.NoError(t, err)
	assert.Zero(t, plan.Count(topology.ActionCreate), "nothing was deleted")
	require.NoError(t, r.Delete(t.Context(), conn))
}

// TestDeleteLeavesEventsToOthers: someone else still listens to all topics.
func TestDeleteLeavesEventsToOthers(t *testing.T) {
	t.Parallel()
	conn := dial(t)
	spec, prefix := unique(t, conn, topology.Spec{Topics: map[string]topology.Topic{"orders": {}, "refunds": {}}})
	require.NoError(t, spec.Resources().Apply(t.Context(), conn))
	ch := channel(t, conn)
	listener, err := ch.QueueDeclare("", false, true, true, false, nil)
	require.NoError(t, err)
	require.NoError(t, ch.QueueBind(listener.Name, "", spec.Events(), false, nil))

	var deleted []string
	require.NoError(t, spec.TopicResources(prefix+"orders").Delete(t.Context(), conn,
		topology.OnDeleted(func(s topology.State) { deleted = append(deleted, s.Name) })))
	assert.Equal(t, []string{prefix + "orders"}, deleted)
	publish(t, conn, prefix+"refunds", "", "still heard")
	assert.Equal(t, "still heard", get(t, ch, listener.Name))

	deleted = nil
	require.NoError(t, spec.Resources().Delete(t.Context(), conn, topology.EvenShared(),
		topology.OnDeleted(func(s topology.State) { deleted = append(deleted, s.Name) })))
	assert.Equal(t, []string{prefix + "refunds", spec.Events()}, deleted)
}

func TestDeleteStopsAtALockedQueue(t *testing.T) {
	t.Parallel()
	conn, other := dial(t), dial(t)
	spec, prefix := unique(t, conn, topology.Spec{Queues: map[string]topology.Queue{"q": {Retry: noRetry()}}})
	r := spec.Resources()
	ch := channel(t, other)
	_, err := ch.QueueDeclare(prefix+"q", false, false, true, false, nil)
	require.NoError(t, err)

	states, err := r.Inspect(t.Context(), conn)
	require.NoError(t, err)
	assert.Equal(t, topology.State{Kind: topology.KindQueue, Name: prefix + "q", Exists: true, Locked: true}, states[1])
	require.ErrorContains(t, r.Delete(t.Context(), conn), "delete queue "+prefix+"q: ")
	_, err = ch.QueueDelete(prefix+"q", false, false, false)
	require.NoError(t, err)
}
