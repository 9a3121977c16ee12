/**
 * The young generation of the connector's thread in the editor, and of its process outside, in MB: what passes through is
 * garbage at once, and the less room it has, the sooner it is gone.
 */
export const youngMegabytes = 6;
