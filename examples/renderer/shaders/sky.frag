layout(location = 0) in vec2 at;
layout(location = 0) out vec4 result;

float random(vec2 p) { return fract(sin(dot(p, vec2(127.1, 311.7))) * 43758.5453); }

float noise(vec2 p) {
    vec2 cell = floor(p), f = fract(p);
    f = f * f * (3.0 - 2.0 * f);
    return mix(mix(random(cell), random(cell + vec2(1, 0)), f.x),
               mix(random(cell + vec2(0, 1)), random(cell + vec2(1, 1)), f.x), f.y);
}

void main() {
    vec4 far = scene.to_world * vec4(at, 1.0, 1.0);
    vec3 ray = normalize(far.xyz / far.w - scene.eye.xyz);
    vec3 colour = sky_colour(ray);
    if (ray.y > 0.02) {
        vec2 p = ray.xz / (ray.y + 0.12) * 1.6 + scene.eye.w * 0.02;
        float cloud = 0.0, size = 0.5;
        for (int i = 0; i < 5; i++) { cloud += size * noise(p); p = p * 2.03 + 7.0; size *= 0.5; }
        cloud = smoothstep(0.48, 0.85, cloud) * smoothstep(0.02, 0.2, ray.y);
        vec3 lit = vec3(1.0, 0.86, 0.74) + 0.4 * pow(max(dot(ray, scene.sun.xyz), 0.0), 8.0);
        colour = mix(colour, lit, 0.8 * cloud);
    }
    colour += vec3(6.0, 4.6, 3.0) * smoothstep(0.9990, 0.9996, dot(ray, scene.sun.xyz));
    result = shown(colour);
}
