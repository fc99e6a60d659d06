layout(set = 1, binding = 0) uniform sampler2D albedo;
layout(location = 0) in vec3 place;
layout(location = 1) in vec3 up;
layout(location = 2) in vec3 texel;
layout(location = 0) out vec4 result;

void main() {
    vec3 normal = normalize(up);
    vec3 colour = texture(albedo, texel.xy).rgb;
    float sun = max(dot(normal, scene.sun.xyz), 0.0) * texel.z;
    colour *= vec3(2.3, 1.75, 1.15) * sun + vec3(0.30, 0.38, 0.52) * (0.6 + 0.4 * normal.y);
    result = shown(in_fog(colour, place));
}
