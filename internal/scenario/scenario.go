// Package scenario has the lessons of "evdemo demo": each has a file, and what is long a second one that begins with its name. What the
// two sagas share begins with sagas_, and what many share is in play.go.
package scenario

import (
	"slices"

	"github.com/evdemo/evdemo/internal/stage"
)

// All are the scenarios in the order in which they are listed and played.
func All() []stage.Scenario {
	return []stage.Scenario{
		syncVsAsync(),
		fanout(),
		workers(),
		choreography(),
		orchestration(),
		ordering(),
		causality(),
		eventSourcing(),
		lostEvents(),
		schema(),
		blocking(),
		duplicates(),
		poison(),
		thunderingHerd(),
	}
}

// Find is the scenario with a name.
func Find(name string) (s stage.Scenario, ok bool) {
	all := All()
	i := slices.IndexFunc(all, func(s stage.Scenario) bool { return s.Name == name })
	if i < 0 {
		return s, false
	}
	return all[i], true
}

// Names are the names of all scenarios.
func Names() (names []string) {
	for _, s := range All() {
		names = append(names, s.Name)
	}
	return names
}
