import { safeParse } from 'valibot';
import { type SidecarConfig, sidecarConfigSchema } from '../../protocol/index.ts';

/** A pod's annotation read back; undefined when it is not a configuration. */
export function parseConfig(text: string): SidecarConfig | undefined {
  try {
    const parsed = safeParse(sidecarConfigSchema, JSON.parse(text));
    return parsed.success ? parsed.output : undefined;
  } catch {
    return undefined;
  }
}

/** Whether an annotation says the same as a configuration, whatever the order of its keys. */
export function saysTheSame(text: string, config: SidecarConfig): boolean {
  const present = parseConfig(text);
  return present !== undefined && JSON.stringify(present) === JSON.stringify(parseConfig(JSON.stringify(config)));
}
