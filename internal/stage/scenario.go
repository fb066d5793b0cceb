// Package stage is what the scenarios of "evdemo demo" share: a scenario's parts, a broker, child processes and what befalls
// them, a ledger, and the verdict.
//
// A scenario is played twice: first broken on purpose, so that its fault shows, then as it should be. Each time it has a
// [Stage] of its own, with names of its own on the broker, and what was made there is removed, also where it fails or is
// interrupted. What each time has been counted and measured are its figures; the claims are made over both.
package stage

import (
	"context"
	"math"
)

// Scenario is one lesson. It is a value that says all of it; [Run] plays it.
type Scenario struct {
	// Name is what it is called on the command line.
	Name string
	// Title is a line for the list.
	Title string
	// Lesson is what there is to learn, in three sentences.
	Lesson string
	// Broken and Fixed say what is done in each mode, in a sentence or two.
	Broken, Fixed string
	// Needs says which RabbitMQ it takes.
	Needs Needs
	// Play plays one mode, and measures every figure that belongs to it.
	Play func(ctx context.Context, s *Stage) error
	// Parts are what child processes do that no command does.
	Parts map[string]Part
	// Figures are the rows of the table of was and now, in their order.
	Figures []Figure
	// Claims are what is proven: of the broken mode that its fault shows, of the fixed one that it does not.
	Claims []Claim
	// Try are command lines by which a person can go on from here.
	Try []string
}

// Needs is which RabbitMQ a scenario takes.
type Needs int

// What a scenario may need.
const (
	// Broker is the one that it is given.
	Broker Needs = iota
	// OwnBroker is a node of its own, which it may kill.
	OwnBroker
	// Either is the one that it is given, or none: parts of the shop that its processes run then have a bus in memory.
	Either
	// Nothing is no RabbitMQ at all.
	Nothing
)

// InMemory tells whether the scenario can be played where there is no RabbitMQ.
func (s Scenario) InMemory() bool { return s.Needs == Either || s.Needs == Nothing }

// Dials tells whether the scenario takes the RabbitMQ that it is given, if there is one.
func (s Scenario) Dials() bool { return s.Needs == Broker || s.Needs == Either }

// Mode says which of the two times it is.
type Mode string

// The modes, in the order in which they are played.
const (
	Broken Mode = "broken"
	Fixed  Mode = "fixed"
)

// Figure is something that is counted or measured in both modes, or in one of them.
type Figure struct {
	// Key names it, also in JSON: lost, p99_ms.
	Key string
	// Label is what people read.
	Label string
	// Unit is "" for counts, or one such as "ms", "/s", "%" and "x".
	Unit string
}

// Figures are the values of one mode, by the keys of the figures.
type Figures map[string]float64

// Of is the value of a figure. Of one that was not measured it is no number, of which no comparison holds.
func (f Figures) Of(key string) float64 {
	if v, ok := f[key]; ok {
		return v
	}
	return math.NaN()
}

// Claim is something to prove.
type Claim struct {
	// Text is a sentence that is true where the claim holds.
	Text string
	// By are the keys of the figures that decide.
	By []string
	// Holds decides. It looks at nothing else than the figures in By, with [Figures.Of].
	Holds func(was, now Figures) bool
}
