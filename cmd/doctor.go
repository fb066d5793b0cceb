package cmd

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/evdemo/evdemo/internal/doctor"
)

const doctorLong = `Check the way to the broker, step by step: name, TCP, TLS, login, virtual host, permissions, a confirmed
round trip, alarms. Each line is ok or says what to do about it. Every URL is checked.

Broker: one temporary queue of the connection's own, gone when the check ends.

Exit codes: 0 every URL is healthy; 4 one is not; 2 wrong usage.`

// newDoctorCommand builds "doctor". Tests pass run to look at what was parsed.
func newDoctorCommand(app *App, run func(context.Context, *App, *output) error) *cobra.Command {
	if run == nil {
		run = runDoctor
	}
	cmd := &cobra.Command{
		Use:     "doctor",
		Short:   "Check the way to the broker and say what to do about it",
		Long:    doctorLong,
		Example: "  evdemo doctor\n  evdemo doctor --url amqp://guest:guest@localhost:5672/",
		Args:    cobra.NoArgs,
	}
	format := outputFlag(cmd.Flags(), "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), app, format) }
	return cmd
}

func runDoctor(ctx context.Context, app *App, format *output) error {
	broker, err := app.broker()
	if err != nil {
		return err
	}
	var diagnoses []doctor.Diagnosis
	sick := 0
	for _, url := range broker.URLs {
		d := doctor.Examine(ctx, url, broker.TLS, app.global.connectTimeout)
		diagnoses = append(diagnoses, d)
		if !d.Healthy {
			sick++
		}
		if !format.json() && (!app.global.quiet || !d.Healthy) {
			printDiagnosis(app, d)
		}
	}
	if format.json() {
		if err := writeJSON(app.Out, diagnoses); err != nil {
			return err
		}
	}
	if sick > 0 {
		return &exitError{exitUnreachable, &reportedError{errors.New("no way to the broker")}}
	}
	return nil
}

func printDiagnosis(app *App, d doctor.Diagnosis) {
	fmt.Fprintln(app.Out, d.URL)
	for _, c := range d.Checks {
		fmt.Fprintf(app.Out, "  %-8s %-12s %s\n", c.Status, c.Step, c.Detail)
		if c.Advice != "" {
			fmt.Fprintf(app.Out, "  %-8s %-12s → %s\n", "", "", c.Advice)
		}
	}
}
