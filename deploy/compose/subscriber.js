/** Prints and deletes the messages of the queue $QUEUE_URL. Unsigned, which only a demo SQS accepts. */
const QueueUrl = process.env.QUEUE_URL ?? '';

async function ask(action, parameters) {
  const response = await fetch(new URL('/', QueueUrl), {
    method: 'POST',
    headers: { 'content-type': 'application/x-amz-json-1.0', 'x-amz-target': `AmazonSQS.${action}` },
    body: JSON.stringify({ QueueUrl, ...parameters }),
  });
  if (!response.ok) throw new Error(`${action}: ${response.status} ${await response.text()}`);
  return response.json();
}

for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
for (;;) {
  const { Messages = [] } = await ask('ReceiveMessage', { MaxNumberOfMessages: 10, WaitTimeSeconds: 5 });
  for (const { Body, ReceiptHandle } of Messages) {
    process.stdout.write(`${JSON.parse(Body).Message}\n`);
    await ask('DeleteMessage', { ReceiptHandle });
  }
}
