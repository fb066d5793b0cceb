package command_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/evdemo/evdemo/event"
	"github.com/evdemo/evdemo/worker"
	"github.com/evdemo/evdemo/worker/command"
)

func ExampleNew() {
	r, err := command.New(command.Config{
		Command: `printf '%s ' "$EVDEMO_TYPE" "$EVDEMO_ATTEMPT"; cat; echo; echo 'no such customer' >&2; exit 65`,
		Shell:   true,
		Stdout:  os.Stdout,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	e, err := event.New("order.created", "orders", map[string]int{"order": 4711})
	if err != nil {
		fmt.Println(err)
		return
	}
	err = r.Handle(context.Background(), &worker.Delivery{Event: e, Attempt: 1})
	fmt.Println(err)
	if failure, ok := errors.AsType[*worker.CommandError](err); ok {
		fmt.Println(failure.ExitCode)
	}
	// Output:
	// order.created 1 {"order":4711}
	// run sh: exit status 65: no such customer
	// 65
}
