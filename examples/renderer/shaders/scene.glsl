layout(set = 0, binding = 0) uniform Scene {
    mat4 view_projection;
    mat4 to_world;
    vec4 eye;  // w: time
    vec4 sun;
} scene;

vec3 sky_colour(vec3 ray) {
    float up = max(ray.y, 0.0);
    vec3 colour = mix(vec3(0.62, 0.56, 0.52), vec3(0.10, 0.26, 0.58), pow(up, 0.45));
    float glow = max(dot(ray, scene.sun.xyz), 0.0);
    return colour + vec3(1.0, 0.55, 0.22) * (0.26 * pow(glow, 7.0) + 0.4 * pow(glow, 90.0));
}

vec3 in_fog(vec3 colour, vec3 place) {
    vec3 ray = place - scene.eye.xyz;
    float far = length(ray);
    float seen = exp(-pow(far / 215.0, 2.4));
    ray = normalize(ray);
    return mix(sky_colour(normalize(vec3(ray.x, max(ray.y, 0.0) * 0.6, ray.z))), colour, seen);
}

vec4 shown(vec3 colour) {
    colour *= 1.05;
    return vec4(colour * (2.51 * colour + 0.03) / (colour * (2.43 * colour + 0.59) + 0.14), 1.0);
}
