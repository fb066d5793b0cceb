package rabbitmq_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/bus"
	"github.com/evdemo/evdemo/bus/bustest"
	"github.com/evdemo/evdemo/bus/rabbitmq"
	"github.com/evdemo/evdemo/internal/brokertest"
	"github.com/evdemo/evdemo/internal/session"
	"github.com/evdemo/evdemo/topology"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRabbitMQ(t *testing.T) {
	t.Parallel()
	url := brokertest.URL(t)
	bustest.Run(t, func(t *testing.T, spec topology.Spec) bus.Bus {
		t.Helper()
		b, err := rabbitmq.Open(t.Context(), rabbitmq.Config{URLs: []string{url}, Topology: &spec})
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, b.Close(context.Background()))
			s, err := session.Dial(context.Background(), session.Config{URLs: []string{url}})
			require.NoError(t, err)
			defer s.Close()
			require.NoError(t, spec.Resources().Delete(context.Background(), s, topology.EvenShared()))
		})
		return b
	})
}
