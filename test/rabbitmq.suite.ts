/** All suites that need RabbitMQ and no browser; each also runs alone. */
import '../src/rabbitmq/connection.suite.ts';
import '../src/rabbitmq/tls.suite.ts';
import '../src/outbox/rabbitmq/trouble.suite.ts';
import '../src/outbox/rabbitmq/unanswered.suite.ts';
import '../src/outbox/rabbitmq/deleted.suite.ts';
import '../src/outbox/rabbitmq/rabbitmq.suite.ts';
import '../src/outbox/rabbitmq/leases.suite.ts';
import '../src/outbox/rabbitmq/queues.suite.ts';
import '../src/outbox/rabbitmq/several.suite.ts';
import '../src/outbox/rabbitmq/move.suite.ts';
import '../src/taps/rabbitmq/rabbitmq.suite.ts';
import '../src/taps/rabbitmq/trouble.suite.ts';
import './end-to-end/mongooseim-rabbit.suite.ts';
