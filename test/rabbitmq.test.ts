/** All tests that need RabbitMQ, on one. */
import './rabbitmq.suite.ts';
import './browser/daemons.suite.ts';
