layout(location = 0) in vec3 place;
layout(location = 0) out vec4 result;

void main() {
    vec3 ray = normalize(place - scene.eye.xyz);
    float time = scene.eye.w;
    vec2 p = place.xz;
    vec2 wave = vec2(sin(p.x * 1.3 + time * 2.0 + 1.7 * sin(p.y * 0.7)),
                     cos(p.y * 1.7 - time * 1.6 + 1.3 * sin(p.x * 0.9)))
        + 0.6 * vec2(sin(p.y * 3.1 + p.x * 2.3 + time), cos(p.x * 3.7 - p.y * 2.9 - time));
    wave *= 0.035 / (1.0 + 0.03 * distance(place, scene.eye.xyz));
    vec3 normal = normalize(vec3(wave.x, 1.0, wave.y));
    vec3 mirrored = reflect(ray, normal);
    mirrored.y = abs(mirrored.y);
    float fresnel = 0.06 + 0.94 * pow(1.0 - max(dot(-ray, normal), 0.0), 4.0);
    vec3 colour = mix(vec3(0.03, 0.12, 0.14), sky_colour(mirrored), fresnel);
    colour += vec3(1.3, 0.95, 0.6) * pow(max(dot(mirrored, scene.sun.xyz), 0.0), 320.0);
    result = vec4(shown(in_fog(colour, place)).rgb, 0.62 + 0.38 * fresnel);
}
