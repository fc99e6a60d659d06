layout(location = 0) in vec3 position;
layout(location = 1) in vec3 normal;
layout(location = 2) in vec3 colour;
layout(location = 3) in vec4 instance;  // place, size
layout(location = 4) in vec2 look;      // hue, light
layout(location = 0) out vec3 place;
layout(location = 1) out vec3 up;
layout(location = 2) out vec4 tint;

void main() {
    place = instance.xyz + position * instance.w;
    up = normal;
    tint = vec4(colour * mix(vec3(0.75, 0.9, 0.8), vec3(1.5, 1.15, 0.6), look.x), look.y);
    gl_Position = scene.view_projection * vec4(place, 1.0);
}
