package audit

import (
	"encoding/json"
	"fmt"

	"github.com/evdemo/evdemo/eventstore"
)

// foldName identifies the snapshots of [Fold].
const (
	foldName    = "evdemo.merge"
	foldVersion = 1
)

// Fold makes a stream's state with [Merge].
func Fold() eventstore.Fold[State] {
	return eventstore.Fold[State]{
		Name: foldName, Version: foldVersion,
		Initial: func() State { return State{} },
		Apply:   func(s State, r eventstore.Recorded) (State, error) { return Merge(s, r.Event, nil), nil },
		Encode:  func(s State) ([]byte, error) { return json.Marshal(s) },
		Decode:  decodeState,
	}
}

func decodeState(b []byte) (State, error) {
	value, err := decode(b)
	if err != nil {
		return nil, err
	}
	state, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("a state is an object, and this is a %T", value)
	}
	return state, nil
}
