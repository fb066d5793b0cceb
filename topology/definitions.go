package topology

import (
	"bytes"
	"encoding/json"
)

type definitions struct {
	Exchanges []exchangeDefinition `json:"exchanges"`
	Queues    []queueDefinition    `json:"queues"`
	Bindings  []bindingDefinition  `json:"bindings"`
}

type exchangeDefinition struct {
	Name       string         `json:"name"`
	VHost      string         `json:"vhost"`
	Type       string         `json:"type"`
	Durable    bool           `json:"durable"`
	AutoDelete bool           `json:"auto_delete"`
	Internal   bool           `json:"internal"`
	Arguments  map[string]any `json:"arguments"`
}

type queueDefinition struct {
	Name       string         `json:"name"`
	VHost      string         `json:"vhost"`
	Durable    bool           `json:"durable"`
	AutoDelete bool           `json:"auto_delete"`
	Arguments  map[string]any `json:"arguments"`
}

type bindingDefinition struct {
	Source          string         `json:"source"`
	VHost           string         `json:"vhost"`
	Destination     string         `json:"destination"`
	DestinationType string         `json:"destination_type"`
	RoutingKey      string         `json:"routing_key"`
	Arguments       map[string]any `json:"arguments"`
}

// Definitions is the resources in RabbitMQ's own format, for "rabbitmqctl import_definitions",
// POST /api/definitions of the management plugin, or load_definitions in rabbitmq.conf. vhost is
// the virtual host they are for; importing does not create it. Importing what exists as it is
// wanted changes nothing, and what was imported does not conflict with [Resources.Apply].
func (r Resources) Definitions(vhost string) ([]byte, error) {
	d := definitions{
		Exchanges: make([]exchangeDefinition, 0, len(r.Exchanges)),
		Queues:    make([]queueDefinition, 0, len(r.Queues)),
		Bindings:  make([]bindingDefinition, 0, len(r.Bindings)),
	}
	for _, exchange := range r.Exchanges {
		d.Exchanges = append(d.Exchanges, exchangeDefinition{
			Name: exchange.Name, VHost: vhost, Type: exchange.Type, Durable: true, Arguments: map[string]any{},
		})
	}
	for _, queue := range r.Queues {
		d.Queues = append(d.Queues, queueDefinition{
			Name: queue.Name, VHost: vhost, Durable: true, Arguments: queue.Arguments,
		})
		if queue.Arguments == nil {
			d.Queues[len(d.Queues)-1].Arguments = map[string]any{}
		}
	}
	for _, binding := range r.Bindings {
		d.Bindings = append(d.Bindings, bindingDefinition{
			Source: binding.Source, VHost: vhost, Destination: binding.Destination,
			DestinationType: string(binding.To), Arguments: map[string]any{},
		})
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(d); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
