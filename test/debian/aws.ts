/**
 * A stand-in for AWS and its command line, in a system whose `hosts` file resolves AWS's names to it: SNS and SQS at
 * AWS's own addresses. Supports topics, queues and subscriptions of CloudFormation.
 *
 * Usage: node aws.ts serve CERTIFICATE KEY | cloudformation deploy … | sqs receive-message …
 */
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { parseArgs } from 'node:util';
import { CreateTopicCommand, SNSClient, SubscribeCommand } from '@aws-sdk/client-sns';
import { CreateQueueCommand, ReceiveMessageCommand, SQSClient } from '@aws-sdk/client-sqs';
import { buildApp } from 'fauxqs';
import { parse } from 'yaml';

/** The account in the documents, and the stand-in's own. */
const [ACCOUNT, OWN] = ['123456789012', '000000000000'];

/** Serves AWS's addresses under the account used in the documents. */
async function serve(certificate: string, key: string): Promise<void> {
  const app = buildApp({ logger: false });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  const server = https.createServer({ cert: readFileSync(certificate), key: readFileSync(key) }, async (from, to) => {
    const chunks: Buffer[] = [];
    for await (const chunk of from) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString().replaceAll(ACCOUNT, OWN);
    const names = ['content-type', 'x-amz-target', 'authorization', 'x-amz-date'];
    const headers = names.flatMap((name) => (from.headers[name] ? [[name, String(from.headers[name])]] : []));
    const answer = await fetch(`${url}${from.url}`, { method: from.method ?? 'POST', headers: headers as never, body });
    const text = (await answer.text()).replaceAll(OWN, ACCOUNT);
    to.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? 'text/xml' }).end(text);
  });
  server.listen(443, '127.0.0.1', () => process.stdout.write('ready\n'));
}

interface Resource {
  readonly Type: string;
  readonly Properties: Readonly<Record<string, string>>;
}

/** Creates the topics, the queue and the subscriptions of a template, with default parameters. */
async function deploy(file: string): Promise<void> {
  const tags = ['Ref', 'GetAtt', 'Sub'].map((name) => ({ tag: `!${name}`, resolve: (value: string) => value }));
  const { Parameters, Resources } = parse(readFileSync(file, 'utf8'), { customTags: tags }) as {
    Parameters: Record<string, { Default?: string }>;
    Resources: Record<string, Resource>;
  };
  const of = (type: string) => Object.entries(Resources).filter(([, { Type }]) => Type === `AWS::${type}`);
  const value = (text = '') => Parameters[text]?.Default ?? text;
  const [sns, sqs] = [new SNSClient(), new SQSClient()];
  const arns = new Map<string, string>();
  for (const [name, { Properties }] of of('SNS::Topic')) {
    const { TopicArn = '' } = await sns.send(new CreateTopicCommand({ Name: value(Properties.TopicName) }));
    arns.set(name, TopicArn);
  }
  const region = process.env.AWS_REGION ?? '';
  for (const [name, { Properties }] of of('SQS::Queue')) {
    const QueueName = value(Properties.QueueName).replace(/\$\{(\w+)\}/, (_, parameter: string) => value(parameter));
    await sqs.send(new CreateQueueCommand({ QueueName }));
    arns.set(`${name}.Arn`, `arn:aws:sqs:${region}:${ACCOUNT}:${QueueName}`);
  }
  for (const [, { Properties }] of of('SNS::Subscription')) {
    const [TopicArn, Endpoint] = [arns.get(Properties.TopicArn ?? ''), arns.get(Properties.Endpoint ?? '')];
    await sns.send(new SubscribeCommand({ TopicArn, Endpoint, Protocol: 'sqs' }));
  }
}

const [, , service, action = '', ...rest] = process.argv;
if (service === 'serve') await serve(action, rest[0] ?? '');
else {
  const { values } = parseArgs({ args: rest, strict: false });
  const given = (name: string) => {
    const index = rest.indexOf(`--${name}`);
    if (!(name in values)) throw new Error(`aws ${service} ${action}: --${name} is missing`);
    return rest[index + 1] ?? '';
  };
  if (service === 'cloudformation' && action === 'deploy') await deploy(given('template-file'));
  else if (service === 'sqs' && action === 'receive-message') {
    const command = new ReceiveMessageCommand({
      QueueUrl: given('queue-url'),
      WaitTimeSeconds: Number(given('wait-time-seconds')),
    });
    // The request was signed for another account.
    const { Messages } = await new SQSClient({ md5: false }).send(command);
    process.stdout.write(`${JSON.stringify({ Messages }, null, 4)}\n`);
  } else throw new Error(`this stand-in has no aws ${service} ${action}`);
}
