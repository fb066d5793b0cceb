package cmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/internal/localbroker"
)

const brokerStatusLong = `Tell whether the private RabbitMQ node runs, and where, or what it takes to start it. This looks at the
node's process and asks nothing of the broker; "evdemo doctor" does.

Exit codes: 0 it runs; 1 it does not; 2 wrong usage.`

// brokerStatus is what "broker status -o json" prints. What is not known is left out.
type brokerStatus struct {
	Running       bool       `json:"running"`
	Version       string     `json:"version,omitempty"`
	URL           string     `json:"url,omitempty"`
	ManagementURL string     `json:"management_url,omitempty"`
	PID           int        `json:"pid,omitempty"`
	Started       *time.Time `json:"started,omitempty"`
	Dir           string     `json:"dir"`
	Log           string     `json:"log,omitempty"`
	// Server is the rabbitmq-server that runs, or that would be started; none if none is installed.
	Server string `json:"server,omitempty"`
	// missing says how to get one.
	missing error
}

// newBrokerStatusCommand builds "broker status". Tests pass run to look at what was parsed.
func newBrokerStatusCommand(app *App, run func(context.Context, *App, *output) error) *cobra.Command {
	if run == nil {
		run = runBrokerStatus
	}
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Tell whether the node runs, and where",
		Long:    brokerStatusLong,
		Example: "  evdemo broker status\n  evdemo broker status -o json",
		Args:    cobra.NoArgs,
	}
	format := outputFlag(cmd.Flags(), "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), app, format) }
	return cmd
}

func runBrokerStatus(_ context.Context, app *App, format *output) error {
	status, err := lookAtBroker(app)
	if err != nil {
		return err
	}
	if format.json() {
		err = writeJSON(app.Out, status)
	} else {
		err = printBrokerStatus(app, status)
	}
	if err == nil && !status.Running {
		err = &reportedError{localbroker.ErrNotRunning}
	}
	return err
}

func lookAtBroker(app *App) (brokerStatus, error) {
	dir, err := localbroker.StateDir(app.LookupEnv)
	if err != nil {
		return brokerStatus{}, err
	}
	status := brokerStatus{Dir: dir}
	node, err := localbroker.Running(dir)
	switch {
	case err == nil:
		started := node.Started()
		return brokerStatus{
			Running: true, Version: node.Version(), URL: node.URL(), ManagementURL: node.ManagementURL(),
			PID: node.PID(), Started: &started, Dir: dir, Log: node.LogFile(), Server: node.Server(),
		}, nil
	case !errors.Is(err, localbroker.ErrNotRunning):
		return status, err
	}
	if node, err := localbroker.Load(dir); err == nil {
		status.Log = node.LogFile()
	}
	status.Server, status.missing = localbroker.Find()
	return status, nil
}

func printBrokerStatus(app *App, s brokerStatus) error {
	switch {
	case s.missing != nil:
		_, err := fmt.Fprintf(app.Out, "not running: %v\n", s.missing)
		return err
	case !s.Running:
		_, err := fmt.Fprintf(app.Out, "not running; \"evdemo broker start\" starts it in %s\n", s.Dir)
		return err
	}
	_, err := fmt.Fprintf(app.Out, `RabbitMQ %s is running
  URL         %s
  web page    %s (guest, guest)
  process     %d, since %s
  directory   %s
  log         %s
  server      %s
`, s.Version, s.URL, s.ManagementURL, s.PID, s.Started.Local().Format(time.DateTime), s.Dir, s.Log, s.Server)
	return err
}
