layout(location = 0) in vec3 place;
layout(location = 1) in vec3 up;
layout(location = 2) in vec4 tint;
layout(location = 0) out vec4 result;

void main() {
    vec3 normal = normalize(up);
    float sun = max(dot(normal, scene.sun.xyz) * 0.8 + 0.2, 0.0) * tint.w;
    vec3 colour = tint.rgb
        * (vec3(2.3, 1.75, 1.15) * sun + vec3(0.30, 0.38, 0.52) * (0.7 + 0.3 * normal.y));
    result = shown(in_fog(colour, place));
}
