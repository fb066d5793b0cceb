package chaos

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSchedule(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := Config{
			Seed: rapid.Uint64().Draw(t, "seed"), Orders: rapid.IntRange(1, 20_000).Draw(t, "orders"),
			Kills: rapid.IntRange(0, 100).Draw(t, "kills"), BrokerKills: rapid.IntRange(0, 10).Draw(t, "broker kills"),
		}
		processes := rapid.IntRange(1, 30).Draw(t, "processes")
		faults := schedule(&c, processes)
		require.Equal(t, faults, schedule(&c, processes), "the seed decides")
		count := map[kind]int{}
		var broker []int
		for i, f := range faults {
			count[f.kind]++
			require.True(t, f.placed >= 1 && f.placed <= c.Orders && f.target >= 0 && f.target < processes, "%+v", f)
			require.True(t, i == 0 || faults[i-1].placed <= f.placed, "in order")
			if f.kind == killBroker {
				broker = append(broker, f.placed)
			}
		}
		require.Equal(t, []int{c.Kills, c.Kills / 10, c.Kills / 10, min(c.Kills, 1), c.BrokerKills},
			[]int{count[kill], count[stop], count[freeze], count[killAll], count[killBroker]})
		for i, placed := range broker {
			from, to := i*c.Orders/len(broker), (i+1)*c.Orders/len(broker)
			require.True(t, placed > from && placed <= max(to, from+1), "each in its share of the orders: %v", broker)
		}
	})
}

func TestAnotherSeedIsAnotherSchedule(t *testing.T) {
	t.Parallel()
	one, other := Config{Seed: 1, Orders: 1000, Kills: 20}, Config{Seed: 2, Orders: 1000, Kills: 20}
	require.False(t, slices.Equal(schedule(&one, 17), schedule(&other, 17)))
}
