package topology

import (
	"errors"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMissingIsNotDown: a queue whose node is down is a 404 too, and must not be taken for one to
// be created.
func TestMissingIsNotDown(t *testing.T) {
	t.Parallel()
	missing := &amqp.Error{Code: amqp.NotFound, Reason: "NOT_FOUND - no queue 'q' in vhost '/'"}
	assert.True(t, isMissing(missing, KindQueue))
	assert.False(t, isMissing(missing, KindExchange))
	assert.False(t, isMissing(nil, KindQueue))
	for _, reason := range []string{
		"NOT_FOUND - home node 'rabbit@two' of durable queue 'q' in vhost '/' is down or inaccessible",
		"NOT_FOUND - failed to perform operation on queue 'q' in vhost '/' due to timeout",
	} {
		assert.False(t, isMissing(&amqp.Error{Code: amqp.NotFound, Reason: reason}, KindQueue))
	}
}

func TestAccessError(t *testing.T) {
	t.Parallel()
	refusal := &amqp.Error{Code: amqp.AccessRefused, Reason: "ACCESS_REFUSED - configure access to queue 'q' in vhost '/' refused for user 'u'"}
	err := explain("compare", KindQueue, "q", true, refusal)
	var access *AccessError
	require.ErrorAs(t, err, &access)
	require.ErrorIs(t, err, refusal)
	assert.True(t, access.Exists)
	require.ErrorContains(t, err, "compare queue q: ")
	require.ErrorContains(t, err, "it exists: ask for the permission, or go on without declaring it")
	require.ErrorContains(t, explain("create", KindQueue, "q", false, refusal), "have it done by someone who has it")

	other := errors.New("connection lost")
	err = explain("create", KindQueue, "q", false, other)
	require.ErrorIs(t, err, other)
	require.NotErrorAs(t, err, &access)
	assert.EqualError(t, err, "create queue q: connection lost")
}
