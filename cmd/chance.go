package cmd

import (
	"math/rand/v2"
	"sync"
)

// chance is a seeded source of random numbers for several goroutines.
type chance struct {
	mu     sync.Mutex
	random *rand.Rand
}

func newChance(seed uint64) *chance {
	return &chance{random: rand.New(rand.NewPCG(seed, seed))} //nolint:gosec // a simulation
}

func (c *chance) float() float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.random.Float64()
}
