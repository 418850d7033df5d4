/** A DynamoDB for tests: dynalite in this process. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { DynamoDB } from '@aws-sdk/client-dynamodb';
import dynalite from 'dynalite';

export interface Dynamo extends AsyncDisposable {
  readonly client: DynamoDB;
  /** Creates a table with the partition key `pk`; returns its name. */
  createTable(name: string): Promise<string>;
}

export async function startDynamo(): Promise<Dynamo> {
  const server = dynalite({ createTableMs: 0 });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const credentials = { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI' };
  const client = new DynamoDB({ endpoint: `http://127.0.0.1:${port}`, region: 'eu-west-1', credentials });
  return {
    client,
    async createTable(name) {
      await client.createTable({
        TableName: name,
        AttributeDefinitions: [{ AttributeName: 'pk', AttributeType: 'S' }],
        KeySchema: [{ AttributeName: 'pk', KeyType: 'HASH' }],
        BillingMode: 'PAY_PER_REQUEST',
      });
      return name;
    },
    async [Symbol.asyncDispose]() {
      client.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
