package localbroker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Ctl runs rabbitmqctl against the node and returns what it printed. It takes half a second or
// more, most of it to start an Erlang VM.
func (n *Node) Ctl(ctx context.Context, args ...string) (string, error) {
	program := filepath.Join(filepath.Dir(n.config.Server), "rabbitmqctl")
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = n.layout.dir
	cmd.Env = n.layout.environment(n.config.NodeName, n.ports)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("rabbitmqctl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// CloseConnections closes every client's connection to the node, as an operator does: clients
// receive CONNECTION_FORCED with the reason. It returns how many there were. A connection that
// was opened before the call is among them, however short before: the list per user comes from
// the tracking of connections, unlike the list of all, which lags behind by seconds.
func (n *Node) CloseConnections(ctx context.Context, reason string) (int, error) {
	api := management{n.ports.Management}
	var users []struct {
		Name string `json:"name"`
	}
	if err := api.get(ctx, "users?columns=name", &users); err != nil {
		return 0, fmt.Errorf("close connections: %w", err)
	}
	closed := 0
	for _, user := range users {
		path := "connections/username/" + url.PathEscape(user.Name)
		var connections []struct{}
		err := api.get(ctx, path+"?columns=name", &connections)
		if err == nil && len(connections) > 0 {
			err = api.do(ctx, http.MethodDelete, path, http.Header{"X-Reason": {reason}}, nil)
		}
		if err != nil {
			return closed, fmt.Errorf("close connections: %w", err)
		}
		closed += len(connections)
	}
	return closed, nil
}

// SetMemoryAlarm raises the node's memory alarm, which blocks every connection that publishes, or
// clears it. It returns when the alarm is in force, or is not any more.
func (n *Node) SetMemoryAlarm(ctx context.Context, on bool) error {
	watermark := defaultWatermark
	if on {
		watermark = "0"
	}
	if _, err := n.Ctl(ctx, "set_vm_memory_high_watermark", watermark); err != nil {
		return fmt.Errorf("set memory alarm: %w", err)
	}
	for {
		err := management{n.ports.Management}.get(ctx, "health/checks/local-alarms", nil)
		alarm := errors.Is(err, errUnavailable)
		if err != nil && !alarm {
			return fmt.Errorf("set memory alarm: %w", err)
		}
		if alarm == on {
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return fmt.Errorf("set memory alarm: not in force: %w", err)
		}
	}
}

// management is the management API on a port.
type management struct{ port int }

// errUnavailable is the API's answer 503, by which a health check says no.
var errUnavailable = errors.New("503 Service Unavailable")

// get decodes the answer into v, unless that is nil.
func (m management) get(ctx context.Context, path string, v any) error {
	return m.do(ctx, http.MethodGet, path, nil, v)
}

func (m management) do(ctx context.Context, method, path string, header http.Header, v any) error {
	request, err := http.NewRequestWithContext(ctx, method, "http://"+address(m.port)+"/api/"+path, nil)
	if err != nil {
		return err
	}
	if header != nil {
		request.Header = header
	}
	request.SetBasicAuth("guest", "guest")
	// A transport of its own: no proxy, and no connection left open when the node goes away.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusServiceUnavailable:
		return fmt.Errorf("%s /api/%s: %w", method, path, errUnavailable)
	case response.StatusCode >= 300:
		return fmt.Errorf("%s /api/%s: %s", method, path, response.Status)
	case v == nil:
		return nil
	}
	return json.NewDecoder(response.Body).Decode(v)
}
