package topology_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/evdemo/evdemo/topology"
)

func ExampleParse() {
	spec, err := topology.Parse("topology.yaml", []byte(`
topics:
  orders:
    groups: [email]
    queues: [payments]
queues:
  payments:
    retry: [1s, 1m]
    max-attempts: 3
`))
	if err != nil {
		log.Fatal(err)
	}
	for _, queue := range spec.Resources().Queues {
		fmt.Println(queue.Role, queue.Name)
	}
	// Output:
	// dead-letter orders.email.dlq
	// work orders.email
	// retry orders.email.retry.1s
	// retry orders.email.retry.5s
	// retry orders.email.retry.30s
	// dead-letter payments.dlq
	// work payments
	// retry payments.retry.1s
	// retry payments.retry.1m
}

func ExampleParse_mistake() {
	_, err := topology.Parse("topology.yaml", []byte("queues:\n  payments:\n    retries: [1s]\n    max-attempts: 0\n"))
	fmt.Println(err)
	// Output:
	// topology.yaml:3:5: unknown key "retries"; there are retry, max-attempts, single-active
	//      1 | queues:
	//      2 |   payments:
	// >    3 |     retries: [1s]
	//        |     ^
	//      4 |     max-attempts: 0
	// topology.yaml:4:19: max-attempts is a whole number, 1 or more
	//      2 |   payments:
	//      3 |     retries: [1s]
	// >    4 |     max-attempts: 0
	//        |                   ^
}

func ExampleResources_Apply() {
	conn, err := amqp.Dial("amqp://guest:guest@localhost:5672/")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	err = topology.Default().QueueResources("payments").Apply(context.Background(), conn)
	if conflict, ok := errors.AsType[*topology.ConflictError](err); ok {
		for _, d := range conflict.Differences {
			fmt.Printf("%s of %s is %v and should be %v\n", d.Argument, conflict.Name, d.Have, d.Want)
		}
	}
}

func ExampleResources_Plan() {
	conn, err := amqp.Dial("amqp://guest:guest@localhost:5672/")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	plan, err := topology.Default().Resources().Plan(context.Background(), conn)
	if err != nil {
		log.Fatal(err)
	}
	for _, change := range plan.Changes {
		fmt.Println(change.Action, change.Kind, change.Name)
	}
}

func ExampleResources_Delete() {
	conn, err := amqp.Dial("amqp://guest:guest@localhost:5672/")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	err = topology.Default().Resources().Delete(context.Background(), conn,
		topology.IfEmpty(),
		topology.OnDeleted(func(s topology.State) { fmt.Println("deleted", s.Kind, s.Name) }),
	)
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleSpec_WithPrefix() {
	staging := topology.Default().WithPrefix("staging-")
	for _, exchange := range staging.TopicResources("staging-orders").Exchanges {
		fmt.Println(exchange.Name)
	}
	// Output:
	// staging-events
	// staging-orders
}

func ExampleResources_WriteTree() {
	spec := topology.Spec{Topics: map[string]topology.Topic{
		"orders": {Log: &topology.Log{}, Queues: []string{"payments"}},
	}}
	if err := spec.Resources().WriteTree(os.Stdout); err != nil {
		log.Fatal(err)
	}
	// Output:
	// exchange orders (fanout)
	// ├─ exchange events (fanout, sees every topic)
	// ├─ log orders.log (stream, at most 7D, 1GB)
	// └─ queue payments (quorum)
	//    ├─ queue payments.dlq (quorum, dead letters)
	//    ├─ queue payments.retry.1s (quorum, retry tier)
	//    ├─ queue payments.retry.5s (quorum, retry tier)
	//    └─ queue payments.retry.30s (quorum, retry tier)
}
