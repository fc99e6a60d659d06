layout(location = 0) out vec3 place;

void main() {
    vec2 corner = vec2(gl_VertexIndex & 1, gl_VertexIndex >> 1) * 2.0 - 1.0;
    place = vec3(scene.eye.x + corner.x * 600.0, 0.0, scene.eye.z + corner.y * 600.0);
    gl_Position = scene.view_projection * vec4(place, 1.0);
}
