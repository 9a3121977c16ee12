/** One attack, from wherever this is run: `main.ts <host> <port> <name>`. Prints what became of it. */
import { grpcAttacks } from './attacks.ts';
import { webhookAttacks } from './webhook-attacks.ts';

const [host = '', port = '', name = ''] = process.argv.slice(2);
const attack = grpcAttacks[name] ?? webhookAttacks[name];
console.log(attack ? await attack({ host, port: Number(port) }) : `there is no attack ${name}`);
process.exit(attack ? 0 : 2);
